"""What a user may ask of a deployment: one strict struct, of which the command line's flags are the paths.

Unknown keys are refused with the likely spelling, values with the field, what was expected and what was given. Durations are
``"250ms"``, ``"10s"``, ``"5m"``, ``"1h"`` or a number of seconds; sizes ``"512MiB"``, ``"2GiB"`` or a number of bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

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
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _normalise(value, kind, f"{path}.")
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
    }
    for path, (value, least) in at_least.items():
        if value < least:
            raise SpecError(f"{path}: expected at least {least}, got {value}")
    seconds = {path: getattr(spec, path) for path in ("timeout", "batch_timeout", "load_timeout")} | {
        "sequences.idle": spec.sequences.idle
    }
    for path, value in seconds.items():
        if value <= 0:
            raise SpecError(f"{path}: expected more than 0 seconds, got {value:g}")
    if spec.scale.max_replicas != spec.scale.min_replicas:
        raise SpecError("scale.max_replicas: there is no autoscaler yet; set it equal to scale.min_replicas")
    if spec.v1 not in (None, "tfserving", "kserve", "truss"):
        raise SpecError(
            f"v1: expected tfserving, kserve or truss, got {spec.v1!r}{did_you_mean(str(spec.v1), ['tfserving', 'kserve', 'truss'])}"
        )
    if not re.fullmatch(r"cpu|cuda:\d+", spec.resources.device):
        raise SpecError(f"resources.device: expected 'cpu' or 'cuda:N', got {spec.resources.device!r}")
