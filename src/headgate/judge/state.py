"""What the judge remembers of a rollout: counts, two sketches and the keys it has seen. Pure: every step makes a new value.

The state is the same however the records were cut into batches, and what `encode` writes gives back the same bits after any restart. A
batch that is lost as a whole (an overflow of the stream, say) costs evidence of both arms alike and falsifies nothing; one that is
handed over twice is recognised by its sequence numbers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from headgate.journal import MirrorReport
from headgate.judge.keys import first_events
from headgate.judge.outcomes import Arm, Event, Records, check, judged, mask
from headgate.judge.settings import JudgeSettings, Metric
from headgate.judge.thresholds import Sketch, Thresholds, add, thresholds


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica of each arm carries, requests a second, measured before the records it is handed over with were decided."""

    candidate: float
    baseline: float

    def comparable(self, tolerance: float) -> bool:
        """Whether the larger exceeds the smaller by less than ``tolerance``."""
        small, large = sorted((self.candidate, self.baseline))
        return small > 0 and large < small * (1.0 + tolerance)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted for one metric. Pairs are (candidate, baseline)."""

    requests: tuple[int, int] = (0, 0)
    bad: tuple[int, int] = (0, 0)
    """All bad events, repeated ones of a key included: for rates."""
    events: tuple[tuple[float, int, int], ...] = ()
    """(weight in force, candidate, baseline), by weight: the bad events that count, of which the e-process is made."""
    replicas: tuple[tuple[int, int, int], ...] = ()
    """(replica, requests, bad) of the candidate, by replica."""
    keys: bytes = b""
    """Keys that have had their first bad event: sorted, 8 bytes each, little endian."""
    left_out: int = 0
    """Bad events for which there was no room among keys or weights."""
    closed: int = 0
    """Requests not judged because the arms did not carry alike."""


class JudgeState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one rollout, from its first request to its last."""

    metrics: dict[str, Tally] = {}
    guards: dict[str, Tally] = {}
    """By objective; absolute, so weights and keys play no part in them."""
    requests: tuple[int, int] = (0, 0)
    """Judged ones."""
    not_judged: int = 0
    """Pinned, repeated, or on a replica that had just started."""
    repeated: int = 0
    """Records handed over a second time."""
    cursors: dict[str, int] = {}
    """The last sequence number of each gateway."""
    load: Load | None = None
    """The last one told."""
    latency: Sketch = Sketch()
    """Of the baseline's requests that were answered, in seconds; so is ``compute``, per row."""
    compute: Sketch = Sketch()
    mirrors: dict[str, MirrorReport] = {}
    """Of a shadow: the newest report of each gateway, by the name of its cursor; without examples, which hold inputs."""

    @property
    def thresholds(self) -> Thresholds:
        """What is slow, for the next routing table."""
        return thresholds(self.latency, self.compute)


def encode(state: JudgeState) -> bytes:
    """Return ``state`` as bytes that hold every float exactly."""
    return msgspec.msgpack.encode(state)


def decode(data: bytes) -> JudgeState:
    """Return the state `encode` wrote. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    return msgspec.msgpack.decode(data, type=JudgeState)


def observe(
    state: JudgeState, batch: Records, settings: JudgeSettings, *, load: Load | None = None, gateway: str = ""
) -> JudgeState:
    """Return the state after ``batch``, records of one gateway in the order of their decisions.

    ``load`` decides whether what depends on it is judged: not where it differs too much, and not where it is unknown (None). Raises
    `ValueError` for records that cannot be.
    """
    check(batch)
    known = state.cursors.get(gateway)
    fresh = batch if known is None else batch[batch["sequence"] > known]
    rows = fresh[judged(fresh)]
    alike = load is not None and load.comparable(settings.load_tolerance)
    answered = rows[(rows["arm"] == Arm.BASELINE) & ((rows["bits"] & Event.ERROR.value) == 0)]
    computed = answered["compute"][~np.isnan(answered["compute"])]
    return JudgeState(
        metrics={metric.name: _metric(state, rows, metric, alike, settings) for metric in settings.active},
        guards={name: _guard(state, rows, name, alike) for name in settings.objectives},
        requests=_plus(state.requests, rows),
        not_judged=state.not_judged + int(((fresh["arm"] != Arm.OTHER) & ~judged(fresh)).sum()),
        repeated=state.repeated + len(batch) - len(fresh),
        cursors={**state.cursors, gateway: int(fresh["sequence"][-1])} if len(fresh) else state.cursors,
        load=load,
        latency=add(state.latency, answered["latency"]),
        compute=add(state.compute, computed),
        mirrors=state.mirrors,
    )


def _metric(state: JudgeState, rows: Records, metric: Metric, alike: bool, settings: JudgeSettings) -> Tally:
    tally = state.metrics.get(metric.name, Tally())
    if metric.timed and not alike:
        return msgspec.structs.replace(tally, closed=tally.closed + len(rows))
    bad = (rows["bits"] & mask(metric.events)) != 0
    drawn = rows[bad & (rows["weight"] > 0) & (rows["weight"] < 1)]  # elsewhere chance decided nothing
    admitted = _admitted(tally, drawn["weight"], settings.max_weights)
    events = drawn[admitted]
    seen = np.frombuffer(tally.keys, dtype="<u8")
    first = first_events(seen, events["key"], settings.max_keys)
    return Tally(
        requests=_plus(tally.requests, rows),
        bad=_plus(tally.bad, rows[bad]),
        events=_counted(tally.events, events, first.counted),
        replicas=_by_replica(tally.replicas, rows, bad),
        keys=first.seen.astype("<u8").tobytes(),
        left_out=tally.left_out + int((~admitted).sum()) + first.left_out,
        closed=tally.closed,
    )


def _guard(state: JudgeState, rows: Records, objective: str, alike: bool) -> Tally:
    tally = state.guards.get(objective, Tally())
    if objective == "latency" and not alike:
        return msgspec.structs.replace(tally, closed=tally.closed + len(rows))
    breaks = Event.OVER_SLO if objective == "latency" else Event.ERROR | Event.TIMEOUT
    bad = (rows["bits"] & breaks.value) != 0
    return msgspec.structs.replace(
        tally,
        requests=_plus(tally.requests, rows),
        bad=_plus(tally.bad, rows[bad]),
        replicas=_by_replica(tally.replicas, rows, bad),
    )


def _plus(counts: tuple[int, int], rows: Records) -> tuple[int, int]:
    ours = int((rows["arm"] == Arm.CANDIDATE).sum())
    return counts[0] + ours, counts[1] + len(rows) - ours


def _admitted(tally: Tally, weights: Any, limit: int) -> Any:
    """Which events stand at a weight that has, or still gets, a row of the table: a question of the weights alone, never of the arms."""
    known = [weight for weight, _, _ in tally.events]
    _, firsts = np.unique(weights, return_index=True)
    appeared = [weight for weight in weights[np.sort(firsts)].tolist() if weight not in known]
    return np.isin(weights, known + appeared[: max(limit - len(known), 0)])


def _counted(events: tuple[tuple[float, int, int], ...], rows: Records, counted: Any) -> tuple[tuple[float, int, int], ...]:
    """Add ``rows`` to the table. A weight that was admitted has a row even if none of its events counts: its place is taken."""
    table = {weight: (ours, theirs) for weight, ours, theirs in events}
    for weight in np.unique(rows["weight"]).tolist():
        table[weight] = _plus(table.get(weight, (0, 0)), rows[counted & (rows["weight"] == weight)])
    return tuple((weight, *table[weight]) for weight in sorted(table))


def _by_replica(replicas: tuple[tuple[int, int, int], ...], rows: Records, bad: Any) -> tuple[tuple[int, int, int], ...]:
    ours = rows["arm"] == Arm.CANDIDATE
    table = {number: (requests, events) for number, requests, events in replicas}
    for number in np.unique(rows["replica"][ours]).tolist():
        here = ours & (rows["replica"] == number)
        requests, events = table.get(number, (0, 0))
        table[number] = (requests + int(here.sum()), events + int((here & bad).sum()))
    return tuple((number, *table[number]) for number in sorted(table))
