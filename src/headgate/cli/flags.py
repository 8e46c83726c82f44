"""The flags of a deployment's settings: one table of flag and path in `headgate.spec.DeploymentSpec`, and nobody else knows both.

A setting is given to the server as it was typed (``"250ms"``): the spec's own parser decides. What can be judged without it is
judged here, so that a typing error is said before a server starts; this file is loaded by ``serve``, which must stay small.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from headgate.errors import did_you_mean
from headgate.units import parse_duration, parse_size

_DEVICE = re.compile(r"cpu|cuda:\d+")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_DIALECTS = ("tfserving", "kserve", "truss")
_STRATEGIES = ("replace", "canary", "blue-green", "shadow")
_POLICIES = ("hold", "promote", "rollback")


def count(text: str) -> int:
    """Parse a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def duration(text: str) -> str | float:
    """Check a duration; a bare number is seconds."""
    if _NUMBER.fullmatch(text):
        return float(text)
    return _checked(parse_duration, text)


def size(text: str) -> str | int:
    """Check a size; a bare number is bytes."""
    if text.isdecimal():
        return int(text)
    return _checked(parse_size, text)


def _checked(parse: Callable[[str], float], text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def device(text: str) -> str:
    """Check a device."""
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected 'cpu' or 'cuda:N', got {text!r}")
    return text


def dialect(text: str) -> str:
    """Check a dialect of the ``/v1`` paths."""
    return _one_of(text, _DIALECTS)


def strategy(text: str) -> str:
    """Check how a revision takes over."""
    return _one_of(text, _STRATEGIES)


def policy(text: str) -> str:
    """Check what becomes of a candidate that nothing is found of."""
    return _one_of(text, _POLICIES)


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)}, got {text!r}{did_you_mean(text, known)}")
    return text


def percents(text: str) -> list[float]:
    """Parse ``5,25,50``: shares in percent, with or without the sign."""
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected shares in percent such as 5,25,50, got {text!r}") from None


def percent(text: str) -> float:
    """Parse ``20``: a share in percent, with or without the sign."""
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a share in percent such as 20, got {text!r}") from None


def number(text: str) -> int:
    """Parse a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def deployment(text: str) -> str:
    """Check the name of a deployment; empty is none."""
    if text and not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected the name of a deployment, or '' for none, got {text!r}")
    return text


def urls(text: str) -> list[str]:
    """Parse ``https://a,https://b``: a comma within one stays its own."""
    found = re.split(r",(?=https?://)", text)
    if not all(re.fullmatch(r"https?://[!-~]+", url) for url in found):
        raise argparse.ArgumentTypeError(f"expected URLs such as https://example.org/hook, got {text!r}")
    return found


def host(text: str) -> str:
    """Check a host with or without a port, as a URL has them."""
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected HOST or HOST:PORT, as in a URL, got {text!r}")
    return text


def versions(text: str) -> list[int]:
    """Parse ``1,2``: versions of a model."""
    return [count(part) for part in text.split(",")]


class Flag(NamedTuple):
    """One flag, the leaves of the spec it sets, and how its text is read (None: a switch with a ``--no-`` form)."""

    flag: str
    paths: tuple[str, ...]
    read: Callable[[str], Any] | None
    metavar: str
    help: str


FLAGS = (
    Flag("--replicas", ("scale.min_replicas", "scale.max_replicas"), count, "N", "processes that run the model (default: 1)"),
    Flag("--threads", ("resources.threads",), count, "N", "compute threads of each (default: cores / replicas)"),
    Flag("--device", ("resources.device",), device, "NAME", "cpu or cuda:N (default: cpu)"),
    Flag(
        "--memory", ("resources.memory",), size, "SIZE", "resident memory above which a replica is replaced (default: not watched)"
    ),
    Flag("--max-rows", ("batching.max_rows",), count, "N", "rows of one batch; 1 switches batching off (default: 256 to 1024)"),
    Flag("--max-delay", ("batching.max_delay",), duration, "TIME", "how long an idle replica waits for more rows (default: 0)"),
    Flag("--max-queue-rows", ("batching.max_queue_rows",), count, "N", "rows that may wait; more are answered 429 (default: 8192)"),
    Flag("--sequence-idle", ("sequences.idle",), duration, "TIME", "how long a sequence may be without a request (default: 60s)"),
    Flag("--max-sequences", ("sequences.max_open",), count, "N", "sequences that may be open at a time (default: 1024)"),
    Flag("--timeout", ("timeout",), duration, "TIME", "time a request has (default: 30s)"),
    Flag("--batch-timeout", ("batch_timeout",), duration, "TIME", "time a batch has before its replica is replaced (default: 10s)"),
    Flag("--load-timeout", ("load_timeout",), duration, "TIME", "time a replica has to load the model (default: 5m)"),
    Flag(
        "--idempotent", ("idempotent",), None, "", "whether a batch may be run again after a crash (default: as the package says)"
    ),
    Flag("--v1", ("v1",), dialect, "DIALECT", "who answers /v1/models: tfserving, kserve or truss (default: by origin)"),
    Flag(
        "--strategy",
        ("rollout.strategy",),
        strategy,
        "NAME",
        "replace, canary, blue-green or shadow: how it takes over (default: replace)",
    ),
    Flag("--steps", ("rollout.steps",), percents, "P,P", "shares of a canary in percent, rising (default: 1,5,25,50,100)"),
    Flag("--bake", ("rollout.bake",), duration, "TIME", "time at each share, and at 100 %, before the next (default: 2m)"),
    Flag("--slo", ("rollout.slo",), str, "SLO", "objectives such as p99=80ms,errors=1%% (default: none)"),
    Flag(
        "--min-events", ("rollout.min_events",), number, "N", "requests a candidate must have answered at each share (default: 50)"
    ),
    Flag(
        "--on-undecided",
        ("rollout.on_undecided",),
        policy,
        "POLICY",
        "hold, promote or rollback where it is found neither safe nor harmful (default: hold)",
    ),
    Flag("--max-duration", ("rollout.max_duration",), duration, "TIME", "time to come to 100 % (default: 24h)"),
    Flag("--mirror", ("rollout.mirror",), percent, "P", "percent of the requests copied for a shadow (default: 100)"),
    Flag("--for", ("rollout.lasts",), duration, "TIME", "how long a shadow lasts (default: 1h)"),
    Flag(
        "--max-disagreement",
        ("rollout.max_disagreement",),
        percent,
        "P",
        "percent of a shadow's answers that may differ before it is taken back (default: they are only reported)",
    ),
    Flag("--rollback-window", ("rollout.rollback_window",), duration, "TIME", "how long the old revision stays warm (default: 1h)"),
    Flag(
        "--hooks",
        ("hooks",),
        urls,
        "URL,URL",
        "who is told, by CloudEvents, when something else takes the traffic (default: nobody)",
    ),
    Flag("--also", ("also",), versions, "N,N", "further versions kept warm, reachable by a version in the path"),
)
"""Every setting of a deployment. ``name`` and ``model`` are said by ``--name`` and by what is deployed."""


LIMITS: dict[str, Callable[[Any], float]] = {
    "head_bytes": parse_size,
    "json_bytes": parse_size,
    "binary_bytes": parse_size,
    "head_seconds": parse_duration,
    "body_seconds": parse_duration,
    "idle_seconds": parse_duration,
    "connections": int,
    "chunks": int,
}
"""The fields of `headgate.serving.limit.Limits`, and how each is read."""


def limit(text: str) -> tuple[str, float]:
    """Parse ``json_bytes=8MiB``: one limit of the inference port."""
    name, _, value = text.partition("=")
    if name not in LIMITS:
        hint = did_you_mean(name, LIMITS) or "."
        raise argparse.ArgumentTypeError(f"there is no limit {name!r}{hint} There are: {', '.join(LIMITS)}")
    try:
        number = LIMITS[name](_number(value))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{name}: expected more than 0, got {value!r}")
    return name, number


def _number(text: str) -> Any:
    """A bare number is one, so that it needs no unit."""
    if text.isdecimal():
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of the table."""
    group = parser.add_argument_group("the deployment")
    for flag in FLAGS:
        text = flag.help.replace("%", "%%")  # argparse would take a percent sign for a format
        if flag.read is None:
            group.add_argument(flag.flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            group.add_argument(flag.flag, type=flag.read, metavar=flag.metavar, default=None, help=text)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, as the (partial) fields of a spec."""
    fields: dict[str, Any] = {}
    for flag in FLAGS:
        value = _given(args, flag)
        for path in flag.paths if value is not None else ():
            _put(fields, path, value)
    return fields


def argv(args: argparse.Namespace) -> list[str]:
    """Return the given settings as flags again, for the process that deploys on behalf of ``serve``."""
    words: list[str] = []
    for flag in FLAGS:
        value = _given(args, flag)
        if isinstance(value, bool):
            words.append(flag.flag if value else flag.flag.replace("--", "--no-", 1))
        elif value is not None:
            words += [flag.flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def _given(args: argparse.Namespace, flag: Flag) -> Any:
    return getattr(args, flag.flag.removeprefix("--").replace("-", "_"))


def _put(fields: dict[str, Any], path: str, value: Any) -> None:
    *groups, leaf = path.split(".")
    for group in groups:
        fields = fields.setdefault(group, {})
    fields[leaf] = value
