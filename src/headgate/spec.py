"""What a user may ask of a deployment: one strict struct, of which the command line's flags are the paths.

Unknown keys are refused with the likely spelling, values with the field, what was expected and what was given. Durations are
``"250ms"``, ``"10s"``, ``"5m"``, ``"1h"`` or a number of seconds; sizes ``"512MiB"``, ``"2GiB"`` or a number of bytes.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from headgate.errors import SpecError, did_you_mean
from headgate.units import parse_duration, parse_size

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Names of models, deployments and aliases. No slash, no percent, no leading dot: they appear in paths and file names."""

Duration = Annotated[float, msgspec.Meta(extra={"unit": "duration"})]
"""Seconds, written as a duration."""
Size = Annotated[int, msgspec.Meta(extra={"unit": "size"})]
"""Bytes, written as a size."""

_PARSERS = {"duration": parse_duration, "size": parse_size}


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many replicas. The two differ once the autoscaler is there; until then they must be equal."""

    min_replicas: int = 1
    max_replicas: int = 1


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one replica gets."""

    threads: int | None = None
    """Compute threads; None: cores / replicas, at least 1. Set before the framework loads."""
    device: str = "cpu"
    """``cpu`` or ``cuda:N``, as the runtime understands it."""
    memory: Size | None = None
    """Resident bytes above which a replica is replaced by a fresh one; None: not watched."""


class Batching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are put together. Rows are counted, never requests."""

    max_rows: int | None = None
    """Rows of one batch; 1 switches batching off. Requests above it are split and joined in order. None: 256, and up to 1024 while full
    batches are computed within 20 ms."""
    max_delay: Duration = 0.0
    """How long the first item of a batch may wait for others while a replica is idle. 0: not at all (batches still form under load)."""
    max_queue_rows: int = 8192
    """Rows that may wait for a replica; beyond it requests are answered 429. An empty queue takes any request: one may exceed this."""


class SequenceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sequences of requests to a model that keeps state."""

    idle: Duration = 60.0
    """How long a sequence may be without a request before it is over."""
    max_open: int = 1024
    """Sequences that may be open at a time; one more is answered 429."""


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a new revision takes the traffic over from the one that has it."""

    strategy: str = "replace"
    """One of `STRATEGIES`."""
    steps: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    """Canary: percent of the traffic, rising; 100 comes after the last in any case."""
    bake: Duration = 120.0
    """Time at each step, and at 100 %, before the next."""
    slo: str = ""
    """What the deployment owes its callers, as ``p99=80ms,errors=1%``; empty: it is compared with the old revision alone."""
    min_events: int = 50
    """Requests that the candidate must have answered at a step before the next."""
    on_undecided: str = "hold"
    """What becomes of a candidate of which nothing bad was found, nor that it is safe: ``hold`` waits for a person, and takes it back
    after ``max_duration``; ``promote``, ``rollback``."""
    max_duration: Duration = 86400.0
    """A rollout that has not come to 100 % by then ends as ``on_undecided`` says."""
    rollback_window: Duration = 3600.0
    """How long the old revision is kept warm after the candidate has all of the traffic."""
    mirror: float = 100.0
    """Shadow: percent of the requests of which the candidate gets a copy."""
    lasts: Duration = 3600.0
    """Shadow: for how long. After that the candidate is let go; it is promoted only where a person says so."""
    max_disagreement: float | None = None
    """Shadow: percent of the compared answers that may differ before the candidate is taken back; None: they are only reported."""


STRATEGIES = ("replace", "canary", "blue-green", "shadow")
"""``replace``: switched when it is ready, the old one ends. ``canary``: step by step. ``blue-green``: switched, the old one kept.
``shadow``: it gets copies of requests, its answers are compared and never returned."""
POLICIES = ("hold", "promote", "rollback")


class HookSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of the lines of a deployment's history: a URL, or a command on the server's machine. A bare string is a URL."""

    url: str | None = None
    """``http`` or ``https``; gets a POST with a CloudEvent."""
    command: tuple[str, ...] = ()
    """A program and its arguments, run without a shell, with the CloudEvent on its standard input."""
    events: tuple[str, ...] = ()
    """Of ``begun``, ``step``, ``held``, ``paused``, ``resumed``, ``changed``, ``promoted``, ``rolled_back``, ``superseded``, ``complete``
    and ``switched``; empty: all."""
    secret: str = ""
    """Name of the secret that signs what is sent to the URL, never the secret itself; empty: unsigned."""


EVENTS = tuple("begun step held paused resumed changed promoted rolled_back superseded complete switched".split())
"""What a line of the history may say has happened."""
MOST_HOOKS = 16
"""Of one deployment."""
_URL = re.compile(r"[!-~]{1,2048}")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class DeploymentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a user asks of one deployment."""

    name: str
    model: str
    """``model``, ``model@3`` or ``model@alias``."""
    also: tuple[int, ...] = ()
    """Further versions of the same model kept warm at weight 0, reachable by a version in the path."""
    scale: Scale = Scale()
    resources: Resources = Resources()
    batching: Batching = Batching()
    sequences: SequenceSpec = SequenceSpec()
    timeout: Duration = 30.0
    """Time a request has, from its arrival, unless it asks for less."""
    batch_timeout: Duration = 10.0
    """A replica whose batch takes longer is ended and started anew."""
    load_timeout: Duration = 300.0
    """A replica that is not ready after this is a failed one."""
    idempotent: bool | None = None
    """Whether a batch may be run again after its replica died. None: as the package says (built-in frameworks are pure)."""
    v1: str | None = None
    """Dialect of the ``/v1`` paths: ``tfserving``, ``kserve`` or ``truss``; None: by the origin of the package."""
    rollout: RolloutSpec = RolloutSpec()
    hooks: tuple[HookSpec, ...] = ()
    """Who is told when something else takes the traffic, step by step or at once: URLs (``https://...``) and commands."""


def parse_spec(fields: dict[str, Any]) -> DeploymentSpec:
    """Return the spec that ``fields`` describe.

    Raises `SpecError` that names the path, what was expected and what was given.
    """
    try:
        spec = msgspec.convert(_normalise(fields, DeploymentSpec, ""), DeploymentSpec)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise SpecError(f"{path.rstrip('`').lstrip('.') or 'deployment'}: {text[:1].lower()}{text[1:]}") from None
    _check_values(spec)
    return spec


def spec_fields(spec: DeploymentSpec) -> dict[str, Any]:
    """Return ``spec`` as plain JSON-able values, which `parse_spec` takes back."""
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    return fields


def parse_reference(text: str) -> tuple[str, int | str | None]:
    """Split ``model``, ``model@3`` or ``model@alias`` into its name and its version, alias or None. Raises `SpecError`."""
    name, at, selector = text.partition("@")
    if not NAME.fullmatch(name) or (at and not NAME.fullmatch(selector)):
        raise SpecError(
            f"model: expected 'model', 'model@3' or 'model@alias' of letters, digits, '.', '_' and '-', got {text[:200]!r}"
        )
    if not at:
        return name, None
    return name, int(selector) if selector.isdecimal() else selector


def check_name(name: str, field: str) -> str:
    """Return ``name`` if it is a legal name of a model, deployment or alias. Raises `SpecError` naming ``field``."""
    if not NAME.fullmatch(name):
        raise SpecError(
            f"{field}: expected 1 to 128 letters, digits, '.', '_' and '-', starting with a letter or digit, got {name[:200]!r}"
        )
    return name


def _normalise(fields: Any, kind: type[msgspec.Struct], path: str) -> Any:
    """Return ``fields`` with durations and sizes as numbers; refuse unknown keys before msgspec does, which cannot say what was meant."""
    if not isinstance(fields, dict):
        return fields
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    plain: dict[str, Any] = {}
    for key, value in fields.items():
        if key not in known:
            hint = did_you_mean(str(key), known) or "."
            raise SpecError(f"{path}{key}: there is no such setting{hint} Known here: {', '.join(known)}")
        plain[key] = _normalise_value(value, known[key].type, f"{path}{key}")
    return plain


def _normalise_value(value: Any, kind: Any, path: str) -> Any:
    if kind is HookSpec and isinstance(value, str):
        return {"url": value}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _normalise(value, kind, f"{path}.")
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return [_normalise_value(item, get_args(kind)[0], f"{path}[{at}]") for at, item in enumerate(value)]
    for part in (kind, *get_args(kind)):
        for meta in getattr(part, "__metadata__", ()):
            if value is not None and isinstance(meta, msgspec.Meta) and meta.extra:
                try:
                    return _PARSERS[meta.extra["unit"]](value)
                except ValueError as error:
                    raise SpecError(f"{path}: {error}") from None
    return value


def _check_values(spec: DeploymentSpec) -> None:
    check_name(spec.name, "name")
    parse_reference(spec.model)
    at_least = {
        "scale.min_replicas": (spec.scale.min_replicas, 1),
        "scale.max_replicas": (spec.scale.max_replicas, spec.scale.min_replicas),
        "resources.threads": (spec.resources.threads or 1 if spec.resources.threads != 0 else 0, 1),
        "batching.max_rows": (1 if spec.batching.max_rows is None else spec.batching.max_rows, 1),
        "batching.max_queue_rows": (spec.batching.max_queue_rows, 1),
        "sequences.max_open": (spec.sequences.max_open, 1),
        "rollout.min_events": (spec.rollout.min_events, 0),
    }
    for path, (value, least) in at_least.items():
        if value < least:
            raise SpecError(f"{path}: expected at least {least}, got {value}")
    seconds = {path: getattr(spec, path) for path in ("timeout", "batch_timeout", "load_timeout")} | {
        "sequences.idle": spec.sequences.idle,
        "rollout.max_duration": spec.rollout.max_duration,
    }
    for path, value in seconds.items():
        if value <= 0:
            raise SpecError(f"{path}: expected more than 0 seconds, got {value:g}")
    _check_rollout(spec.rollout)
    _check_hooks(spec.hooks)
    if spec.scale.max_replicas != spec.scale.min_replicas:
        raise SpecError("scale.max_replicas: there is no autoscaler yet; set it equal to scale.min_replicas")
    if spec.v1 not in (None, "tfserving", "kserve", "truss"):
        raise SpecError(
            f"v1: expected tfserving, kserve or truss, got {spec.v1!r}{did_you_mean(str(spec.v1), ['tfserving', 'kserve', 'truss'])}"
        )
    if not re.fullmatch(r"cpu|cuda:\d+", spec.resources.device):
        raise SpecError(f"resources.device: expected 'cpu' or 'cuda:N', got {spec.resources.device!r}")


def _check_shadow(rollout: RolloutSpec) -> None:
    for field, percent in (("mirror", rollout.mirror), ("max_disagreement", rollout.max_disagreement)):
        if percent is not None and not 0.01 <= percent <= 100:
            raise SpecError(f"rollout.{field}: expected 0.01 to 100 percent, got {percent:g}; it is percent, not a fraction")
    if rollout.max_disagreement == 100:
        raise SpecError("rollout.max_disagreement: 100 percent may always differ; leave it out where differences are no harm")
    if rollout.lasts <= 0:
        raise SpecError(f"rollout.lasts: expected more than 0 seconds, got {rollout.lasts:g}")
    if rollout.strategy == "shadow" and rollout.lasts > rollout.max_duration:
        raise SpecError(
            f"rollout.lasts: expected at most max_duration ({rollout.max_duration:g} s), got {rollout.lasts:g} s: such a shadow would "
            "never come to its end; raise max_duration too"
        )


def _check_rollout(rollout: RolloutSpec) -> None:
    for field, value, known in (("strategy", rollout.strategy, STRATEGIES), ("on_undecided", rollout.on_undecided, POLICIES)):
        if value not in known:
            raise SpecError(f"rollout.{field}: expected {', '.join(known)}, got {value!r}{did_you_mean(value, known)}")
    for field, seconds in (("bake", rollout.bake), ("rollback_window", rollout.rollback_window)):
        if seconds < 0:
            raise SpecError(f"rollout.{field}: expected 0 seconds or more, got {seconds:g}")
    _check_shadow(rollout)
    steps = rollout.steps
    given = ", ".join(f"{step:g}" for step in steps)
    if not steps:
        raise SpecError("rollout.steps: expected at least one share in percent, such as 5, 25, 50")
    if any(not 0.01 <= step <= 100 for step in steps):
        raise SpecError(f"rollout.steps: expected shares from 0.01 to 100 percent, got {given}; they are percent, not fractions")
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise SpecError(f"rollout.steps: expected rising shares, got {given}; to give less traffic again, abort the rollout")


def _check_hooks(hooks: tuple[HookSpec, ...]) -> None:
    if len(hooks) > MOST_HOOKS:
        raise SpecError(f"hooks: expected at most {MOST_HOOKS}, got {len(hooks)}; let one of them pass on what it gets")
    told: dict[str | tuple[str, ...], int] = {}
    for at, hook in enumerate(hooks):
        path = f"hooks[{at}]"
        if (hook.url is None) == (not hook.command):
            raise SpecError(f"{path}: expected either a url or a command")
        if hook.url is not None:
            _check_url(hook.url, f"{path}.url")
        elif any(not word or "\0" in word for word in hook.command):
            raise SpecError(f"{path}.command: expected a program and its arguments, none of them empty, got {list(hook.command)}")
        for event in hook.events:
            if event not in EVENTS:
                raise SpecError(f"{path}.events: expected {', '.join(EVENTS)}, got {event!r}{did_you_mean(event, EVENTS)}")
        if hook.secret and (hook.url is None or not _SECRET.fullmatch(hook.secret)):
            raise SpecError(
                f"{path}.secret: expected the name of a secret (letters, digits and '_') that signs what a url gets; the secret itself "
                "stays on the server"
            )
        first = told.setdefault(hook.url or hook.command, at)
        if first != at:
            raise SpecError(f"{path}: the same as hooks[{first}]; name it once, with all of its events")


def _check_url(url: str, field: str) -> None:
    try:
        parts = urlsplit(url if _URL.fullmatch(url) else "")
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:  # brackets that do not match, a port that is no number
        parts, whole = urlsplit(""), False
    if not whole:
        raise SpecError(f"{field}: expected a URL such as 'https://example.org/hook', got {url[:200]!r}")
    if parts.username is not None or parts.password is not None:
        # Not repeated here: it may be a password.
        raise SpecError(f"{field}: a URL with a user or password would be shown to everybody who sees the deployment; use 'secret'")
