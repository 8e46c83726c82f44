"""What gateways tell control: the load reports, and what clients of the inference port wish for (outcomes and predictions join them
with the judge and the monitor)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, NamedTuple

import msgspec

_LENGTH = struct.Struct("<I")


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
    epoch: int = 0
    """Of the process: another one after each start."""
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
    RELOAD = "reload"
    """Serve the models of a list and no others, and say when all of them serve."""


class WishedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a list (`WishKind.RELOAD`)."""

    name: str
    """Of the deployment."""
    base_path: str = ""
    """The folder of its versions, if the client names one."""
    newest: int = 0
    """Serve so many of the newest versions, or all where there are fewer; 0: see ``versions``."""
    versions: tuple[int, ...] = ()
    """Serve these; none: what is deployed stays as it is, and of what is not the newest version is served."""
    labels: tuple[tuple[str, int], ...] = ()
    """Aliases, and the versions they are to point to."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One wish; control answers it with a `headgate.routes.WishAnswer` of the same number. One that is sent again is still one wish."""

    number: int
    kind: WishKind
    model: str = ""
    """None in particular with a list."""
    models: tuple[WishedModel, ...] = ()
    """The list of a `WishKind.RELOAD`."""


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


# ---- outcomes

OUTCOME = "<QQdffIHBx"
"""One outcome, for `struct`: sequence number, key hash (0: none), weight of the candidate when it was drawn (0 to 1), seconds to the
answer, seconds of computing per row (NaN: none), `OutcomeBit`, number of the replica (0: none), `Arm`, a spare byte. 40 bytes."""


class Arm(IntEnum):
    """Which side of the comparison a request went to."""

    OTHER = 0
    """Neither. It is not judged."""
    BASELINE = 1
    CANDIDATE = 2


class OutcomeBit(IntFlag):
    """What happened to a request, and why it may not count."""

    ERROR = 1 << 0
    """Answered 5xx, by the model's exception or for want of a replica."""
    TIMEOUT = 1 << 1
    """Its deadline passed."""
    INVALID = 1 << 2
    """The answer held NaN or infinity."""
    SLOW50 = 1 << 3
    """Slower than the threshold in force when it was decided; set as soon as it is, even if it never ends."""
    SLOW95 = 1 << 4
    SLOW99 = 1 << 5
    OVER_SLO = 1 << 6
    """Slower than the latency objective."""
    SLOW_COMPUTE = 1 << 7
    """The model took longer for a row than the threshold in force."""
    WARMUP = 1 << 18
    """Its replica had just started."""


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """Control asks for the outcomes of a rollout that follow number ``after``; those up to it are not needed any more."""

    deployment: str
    rollout: int
    after: int
    most: int


class OutputAgreement(msgspec.Struct, kw_only=True):
    """How one output of a candidate has agreed with the live one, over pairs of answers to the same request."""

    name: str
    compared: int = 0
    """Pairs; of these, those with the same bytes, and those within the tolerance."""
    exact: int = 0
    close: int = 0
    vectors: int = 0
    """Vectors of floats that were looked at; and those of which the largest element stands at the same place."""
    same_top: int = 0
    ranked: int = 0
    """Vectors whose orders were compared, and the sum of their rank correlations (Spearman)."""
    rank_sum: float = 0.0


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One row of which a candidate's answer differs much from the live one."""

    difference: float
    """Relative, 0 to 2; 2 where it cannot be told in numbers."""
    output: str
    row: int
    live: Any
    candidate: Any
    """Values of the output at that row, cut after the first ones."""
    inputs: dict[str, Any] = {}
    """What was asked, the same way."""


class MirrorReport(msgspec.Struct, kw_only=True):
    """What has become of the copies of a shadow, all that were made since this gateway began with it."""

    pairs: int = 0
    """Copies that came back, answered or failed."""
    compared: int = 0
    """Pairs of answers that were compared, and those of which an output differs by more than the tolerance."""
    differed: int = 0
    not_compared: int = 0
    """Pairs of answers for which there was no time."""
    candidate_only: int = 0
    """Pairs with a bad event (an error, NaN or infinity) of the candidate alone, of the baseline alone, of both."""
    baseline_only: int = 0
    both: int = 0
    answered: int = 0
    """Pairs of which both were answered, and what these answers took, in seconds together."""
    candidate_seconds: float = 0.0
    baseline_seconds: float = 0.0
    dropped: int = 0
    """Copies that were not made, or given up, for want of room or for another reason that is no fault of the answer's."""
    outputs: list[OutputAgreement] = []
    examples: list[Example] = []
    """The worst ones."""


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer to a `Pull`; the records follow it."""

    deployment: str
    rollout: int
    epoch: int
    """Of the gateway, whose numbers begin anew when it does."""
    dropped: int = 0
    """Outcomes that had to go before control took them, of both arms alike."""
    mirror: MirrorReport | None = None
    """Of a shadow: it has no outcomes."""


class Outcomes(NamedTuple):
    """What a `Pull` gave."""

    head: Pulled
    records: bytes


def encode_pull(pull: Pull) -> bytes:
    """Return ``pull`` as JSON."""
    return msgspec.json.encode(pull)


def decode_pull(data: bytes | memoryview) -> Pull:
    """Read a pull. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Pull)


def encode_outcomes(head: Pulled, records: bytes) -> bytes:
    """Return the answer to a pull: the length of the head, the head as JSON, the records."""
    text = msgspec.json.encode(head)
    return b"".join((_LENGTH.pack(len(text)), text, records))


def decode_outcomes(data: bytes) -> Outcomes:
    """Read the answer to a pull. Raises `ValueError` or `msgspec.MsgspecError` if it is none."""
    if len(data) < _LENGTH.size:
        raise ValueError("the answer to a pull is cut off")
    (length,) = _LENGTH.unpack_from(data)
    stop = _LENGTH.size + length
    records = data[stop:]
    if len(data) < stop or len(records) % struct.calcsize(OUTCOME):
        raise ValueError("the answer to a pull is cut off")
    return Outcomes(msgspec.json.decode(data[_LENGTH.size : stop], type=Pulled), records)
