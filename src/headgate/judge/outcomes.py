"""What the judge reads: one record of fixed size for each request that was decided, in the order of the decisions.

A gateway writes a record with ``struct.pack(LAYOUT, ...)``, NumPy reads many at once with ``numpy.frombuffer(data, RECORD)``: both
describe the same 40 bytes. Every request has one, good or bad, never sampled; only so do rates mean anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headgate.errors import did_you_mean

LAYOUT = "<QQdffIHBx"
"""The record for `struct`: the fields of `Outcome` in their order, and one spare byte."""

RECORD = np.dtype(
    [
        ("sequence", "<u8"),
        ("key", "<u8"),
        ("weight", "<f8"),
        ("latency", "<f4"),
        ("compute", "<f4"),
        ("bits", "<u4"),
        ("replica", "<u2"),
        ("arm", "u1"),
        ("spare", "u1"),
    ]
)
"""The record for NumPy."""

Records = npt.NDArray[np.void]
"""An array of `RECORD`, one dimension."""


class Arm(IntEnum):
    """Which side of the comparison a request went to."""

    OTHER = 0
    """Neither: a further revision, a shadow. It is not judged."""
    BASELINE = 1
    CANDIDATE = 2


class Event(IntFlag):
    """What happened to a request, and why it may not count."""

    NONE = 0
    ERROR = 1 << 0
    """Answered 5xx, by the model's exception or for want of a replica."""
    TIMEOUT = 1 << 1
    """Its deadline passed."""
    INVALID = 1 << 2
    """The answer held NaN or infinity, or broke the signature."""
    SLOW50 = 1 << 3
    """Slower than the threshold for the median that was in force when it was decided; set as soon as it is, even if it never ends."""
    SLOW95 = 1 << 4
    SLOW99 = 1 << 5
    OVER_SLO = 1 << 6
    """Slower than the latency objective."""
    SLOW_COMPUTE = 1 << 7
    """The model took longer for a row than the threshold in force."""
    PINNED = 1 << 16
    """Sent to its revision by name, not by the draw: says nothing about chance."""
    RETRY = 1 << 17
    """A repetition of a request that was counted."""
    WARMUP = 1 << 18
    """Its replica had just started."""


NOT_JUDGED = Event.PINNED | Event.RETRY | Event.WARMUP
"""Records with one of these bits never enter."""

MEASURES = {event.name.lower(): event for event in Event if event.name and event not in (Event.NONE, *NOT_JUDGED)}
"""The events a metric may count, by the names settings use."""


class Outcome(NamedTuple):
    """One request, as a value; `records` makes an array of many."""

    sequence: int
    """Grows with every decision of one gateway."""
    key: int = 0
    """Hash of the routing key, 64 bits; 0: the request had none, and its arm was drawn for it alone."""
    weight: float = 0.5
    """Probability with which it went to the candidate rather than the baseline, in force at the decision; 0 to 1."""
    latency: float = 0.0
    """Seconds from arrival to answer, or to the deadline."""
    compute: float = float("nan")
    """Seconds of computing per row of its batch; NaN where nothing was computed."""
    bits: int = 0
    """Of `Event`."""
    replica: int = 0
    """Number of the replica that answered, unique within the deployment; 0: none did."""
    arm: int = Arm.OTHER


def records(outcomes: Iterable[Outcome]) -> Records:
    """Return ``outcomes`` as an array of `RECORD`, in their order."""
    return np.array([(*outcome, 0) for outcome in outcomes], dtype=RECORD)


def check(batch: Records) -> None:
    """Refuse records no gateway of ours can have written. Raises `ValueError` that names the field."""
    if batch.dtype != RECORD or batch.ndim != 1:
        raise ValueError(
            f"outcomes: expected a one-dimensional array of {RECORD.itemsize}-byte records, got {batch.dtype} {batch.shape}"
        )
    _require(bool(np.all(np.diff(batch["sequence"].astype(np.int64)) > 0)), "sequence", "numbers that grow from record to record")
    _require(bool(np.all((batch["weight"] >= 0) & (batch["weight"] <= 1))), "weight", "a probability from 0 to 1")
    _require(
        bool(np.all(batch["arm"] <= max(Arm))), "arm", f"one of {', '.join(f'{arm.value} ({arm.name.lower()})' for arm in Arm)}"
    )
    _require(bool(np.all(np.isfinite(batch["latency"]) & (batch["latency"] >= 0))), "latency", "seconds, 0 or more")
    _require(bool(np.all(~np.isinf(batch["compute"]) & ~(batch["compute"] < 0))), "compute", "seconds, 0 or more, or NaN")
    impossible = ((batch["weight"] == 0) & (batch["arm"] == Arm.CANDIDATE)) | (
        (batch["weight"] == 1) & (batch["arm"] == Arm.BASELINE)
    )
    drawn = (batch["bits"] & NOT_JUDGED.value) == 0
    _require(not np.any(impossible & drawn), "arm", "an arm the weight of the same record can have drawn")


def _require(holds: bool, field: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"outcomes.{field}: expected {expected}; the batch is not judged")


def mask(names: Iterable[str]) -> int:
    """Return the bits of the events called ``names``. Raises `ValueError` with the likely spelling."""
    bits = 0
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"there is no event {name!r}{did_you_mean(name, MEASURES) or '.'} Known: {', '.join(MEASURES)}")
        bits |= MEASURES[name].value
    return bits


def judged(batch: Records) -> Any:
    """Return which records may enter: drawn between the two arms, the first time, on a replica that is warm. Boolean, one per record."""
    return (batch["arm"] != Arm.OTHER) & ((batch["bits"] & NOT_JUDGED.value) == 0)
