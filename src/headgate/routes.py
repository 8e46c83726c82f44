"""What control tells the gateways: the whole routing table, as one value with a number; and what became of a wish.

A gateway replaces its table by a newer one (omission means removal) and keeps a copy on disk, so that it can serve without control.
Tolerant between our own versions: unknown fields are skipped.
"""

from __future__ import annotations

from typing import Any

import msgspec

NEVER = 1e9
"""Seconds that nothing takes; JSON has no infinity."""


class RevisionRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One revision a gateway may send work to."""

    name: str
    """``<deployment>-<n>``."""
    version: int
    """The registry version it serves."""
    signature: msgspec.Raw
    """JSON of a `headgate.package.signature.Signature`; raw, because the porch knows no room of the house."""
    platform: str
    """For the Open Inference Protocol's metadata: ``onnx``, ``sklearn``, ..."""
    batch_timeout: float
    max_rows: int
    """Of one batch."""
    first_rows: int = 0
    """Where the limit starts that grows to ``max_rows`` while batches are computed fast; 0: at ``max_rows``."""
    max_delay: float
    max_queue_rows: int
    splittable: bool = True
    """Requests above ``max_rows`` are split and joined; else refused."""
    idempotent: bool = False
    """A batch may be run again."""
    expected: int = 1
    """Replicas there should be."""
    sequence_idle: float = 60.0
    """Seconds after which a sequence that nobody goes on with is over."""
    max_sequences: int = 1024
    """Of the deployment, open at a time."""
    device: str = "cpu"
    """Where each of them computes."""
    example: bytes = b""
    """The package's ``example.json``, for the documentation of the endpoint."""
    config: dict[str, Any] = {}
    """What is shown of the model's own configuration, in the words of the tool whose folder it was."""


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """A share of the traffic, in hundredths of a percent."""

    revision: str
    share: int


class RolloutRoute(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout under way: whose outcomes are told, and what counts as slow. Times in seconds; `NEVER` where nothing is."""

    number: int
    """Of the deployment's rollouts."""
    candidate: str
    baseline: str
    """Names of revisions."""
    mirror: int = 0
    """Share of the baseline's requests of which the candidate gets a copy, in hundredths of a percent; then it has no other."""
    key: str = ""
    """Name of the input whose value says who asks; empty: only the header does."""
    slow50: float = NEVER
    slow95: float = NEVER
    slow99: float = NEVER
    """Quantiles of the baseline's latency, from requests that came before."""
    slow_compute: float = NEVER
    """What a row takes the baseline's model at its slowest."""
    slo: float = NEVER
    """Latency objective."""


class DeploymentRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment: a name clients call."""

    name: str
    model: str
    timeout: float
    """Seconds a request has unless it asks for less."""
    split: tuple[Weight, ...]
    """Sums to 10,000; empty while nothing is ready (requests are answered 503)."""
    revisions: tuple[RevisionRoute, ...]
    """Everything that may serve, the warm ones at weight 0 included; newest last."""
    aliases: dict[str, int] = {}
    """Label -> registry version."""
    v1: str = "tfserving"
    """Dialect of the ``/v1`` paths."""
    rollout: RolloutRoute | None = None
    """The one under way, of which the split is a step."""


class KeyRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One API key, as a gateway may know it: its hash."""

    id: str
    sha256: str
    """Hex digest of the whole key."""
    scopes: frozenset[str]
    """Of ``infer``, ``feedback``, ``admin``, ``gateway``."""


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a gateway knows."""

    id: int
    """Grows with every change."""
    deployments: tuple[DeploymentRoute, ...] = ()
    keys: tuple[KeyRoute, ...] = ()
    """With at least one, every request needs a key."""
    default_deployment: str | None = None
    """Whom the paths without a name mean; None: the only one, else nobody."""
    loadable: tuple[str, ...] = ()
    """Models that are registered and not deployed; none where clients may not load them."""


class WishAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a `headgate.journal.Wish`."""

    number: int
    error: str = ""
    """Why it was not fulfilled; empty if it was."""
    code: str = "invalid_request"
    """Of that error (`headgate.errors`)."""


def encode_table(table: RouteTable) -> bytes:
    """Return ``table`` as JSON."""
    return msgspec.json.encode(table)


def encode_answer(answer: WishAnswer) -> bytes:
    """Return ``answer`` as JSON."""
    return msgspec.json.encode(answer)


def decode_answer(data: bytes) -> WishAnswer:
    """Read the answer to a wish. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=WishAnswer)


def decode_table(data: bytes) -> RouteTable:
    """Read a table. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=RouteTable)
