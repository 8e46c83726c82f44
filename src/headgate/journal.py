"""What gateways tell control: the load reports, and what clients of the inference port wish for (outcomes and predictions join them
with the judge and the monitor)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LinkState(StrEnum):
    """Where a replica stands, as its gateway sees it: LOADING -> READY -> LOST, or LOADING -> FAILED."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    LOST = "lost"


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """One replica that has linked to the gateway."""

    id: str
    revision: str
    pid: int
    state: LinkState
    reason: str = ""
    """Why it failed, in the replica's own words."""
    load_seconds: float = 0.0
    busy_seconds: float = 0.0
    """How long its present batch has been running."""


class RevisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one revision."""

    revision: str
    queued_rows: int
    inflight: int
    """Requests accepted and not yet answered, waiting ones included."""
    requests: int
    """Answered since the gateway started."""
    failures: int
    """Of these, those answered 5xx."""
    rejected: int
    """Answered 429."""
    sequences: int = 0
    """Open ones."""


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a gateway says about itself."""

    gateway: str
    table: int
    """Id of the routing table in force."""
    draining: bool
    connections: int
    replicas: tuple[ReplicaReport, ...] = ()
    revisions: tuple[RevisionReport, ...] = ()


class WishKind(StrEnum):
    """What a client may wish for where it may administer (``--model-control explicit``)."""

    LOAD = "load"
    """Deploy the newest version of a registered model, unless it is deployed, and say when it serves."""
    UNLOAD = "unload"
    """End the deployment of that name."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One wish; control answers it with a `headgate.routes.WishAnswer` of the same number. One that is sent again is still one wish."""

    number: int
    kind: WishKind
    model: str


def encode_wish(wish: Wish) -> bytes:
    """Return ``wish`` as JSON."""
    return msgspec.json.encode(wish)


def decode_wish(data: bytes) -> Wish:
    """Read a wish. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Wish)


def encode_report(report: LoadReport) -> bytes:
    """Return ``report`` as JSON."""
    return msgspec.json.encode(report)


def decode_report(data: bytes) -> LoadReport:
    """Read a report. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=LoadReport)
