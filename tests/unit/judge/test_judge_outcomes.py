"""The record between gateway and judge."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from headgate import journal
from headgate.judge.outcomes import LAYOUT, MEASURES, RECORD, Arm, Event, Outcome, check, judged, mask, records


def test_a_gateway_packs_what_numpy_reads() -> None:
    """``struct`` and NumPy describe the same 40 bytes, so the gateway needs no NumPy."""
    outcome = Outcome(
        7, key=2**64 - 1, weight=0.25, latency=0.5, compute=0.125, bits=Event.ERROR | Event.SLOW95, replica=3, arm=Arm.CANDIDATE
    )
    packed = struct.pack(LAYOUT, *outcome)
    assert struct.calcsize(LAYOUT) == RECORD.itemsize
    assert np.frombuffer(packed, RECORD) == records([outcome])
    assert [str(name) for name in RECORD.names or ()][:-1] == [
        "sequence", "key", "weight", "latency", "compute", "bits", "replica", "arm"
    ]  # fmt: skip


def test_what_is_judged() -> None:
    """A request enters if the draw decided its arm, it came for the first time, and its replica was warm."""
    batch = records(
        [
            Outcome(1, arm=Arm.CANDIDATE),
            Outcome(2, arm=Arm.BASELINE, bits=Event.ERROR),
            Outcome(3, arm=Arm.OTHER),
            Outcome(4, arm=Arm.CANDIDATE, bits=Event.PINNED),
            Outcome(5, arm=Arm.CANDIDATE, bits=Event.RETRY | Event.ERROR),
            Outcome(6, arm=Arm.BASELINE, bits=Event.WARMUP),
        ]
    )
    assert judged(batch).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("sequence", {"sequence": 1}),
        ("weight", {"weight": 1.5}),
        ("weight", {"weight": float("nan")}),
        ("arm", {"arm": 3}),
        ("arm", {"arm": Arm.CANDIDATE, "weight": 0.0}),
        ("arm", {"arm": Arm.BASELINE, "weight": 1.0}),
        ("latency", {"latency": float("inf")}),
        ("latency", {"latency": -1.0}),
        ("compute", {"compute": -1.0}),
    ],
)
def test_impossible_records_are_refused(field: str, wrong: dict[str, Any]) -> None:
    """A record no gateway can have written is named, and the batch not judged."""
    batch = records([Outcome(1), Outcome(**{"sequence": 2, **wrong})])
    with pytest.raises(ValueError, match=rf"outcomes\.{field}: expected"):
        check(batch)


def test_a_pin_may_go_where_the_weight_would_not() -> None:
    """At weight 0 a pinned request reaches the candidate."""
    check(records([Outcome(1, weight=0.0, arm=Arm.CANDIDATE, bits=Event.PINNED)]))


def test_other_arrays_are_refused() -> None:
    """An array that is not made of records is not read as if it were."""
    with pytest.raises(ValueError, match="40-byte records"):
        check(np.zeros(3))


def test_events_have_names() -> None:
    """Settings name events; a wrong name is answered with the likely one."""
    assert mask(["error", "timeout"]) == 3
    assert "pinned" not in MEASURES
    with pytest.raises(ValueError, match="did you mean 'timeout'"):
        mask(["timeuot"])


def test_the_journal_says_the_same() -> None:
    """What gateways write and what the judge reads has one layout, and each arm and bit one meaning."""
    assert journal.OUTCOME == LAYOUT
    assert {arm.name: arm.value for arm in journal.Arm} == {arm.name: arm.value for arm in Arm}
    assert {bit.name: bit.value for bit in journal.OutcomeBit}.items() <= {event.name: event.value for event in Event}.items()
