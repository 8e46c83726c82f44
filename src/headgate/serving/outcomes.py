"""The outcome stream: what became of every request of a rollout, in the order in which the requests were decided.

In the order of the decisions, because errors are often faster than answers: in the order of the answers a look in the middle would see
more of one arm's than of the other's. So the stream stands still at a request that has no outcome yet, at most until its deadline.

Control pulls with a cursor, and what it has not taken stays here, up to a bound; beyond it the oldest go, of both arms, whatever became of
them, so that what is left is as good a sample as before.
"""

from __future__ import annotations

import struct
from collections import deque

import msgspec

from headgate.errors import DeadlineExceeded, HeadgateError
from headgate.journal import OUTCOME, Arm, MirrorReport, OutcomeBit, Pull, Pulled, encode_outcomes
from headgate.protocols.base import Batch, InferRequest
from headgate.routes import DeploymentRoute, RolloutRoute, RouteTable

KEPT = 100_000
"""Outcomes that wait for control, 40 bytes each."""
OPEN = 100_000
"""Decisions whose outcome is not known yet."""
OVERDUE_SECONDS = 1.0
"""Beyond its deadline: by then a request has its outcome, or its client went away without a word."""

_RECORD = struct.Struct(OUTCOME)
_NOTHING = float("nan")
_TIMEOUT = OutcomeBit.TIMEOUT | OutcomeBit.ERROR


class Decision(msgspec.Struct, eq=False):
    """One request that was drawn: which arm, with which chance, and, in the end, its outcome."""

    limits: RolloutRoute
    arm: int
    weight: float
    """The candidate's, 0 to 1."""
    key: int
    """Hash of who asks; 0: unknown."""
    arrived: float
    deadline: float
    """Monotonic seconds."""
    bits: int = 0
    closed: bool = False
    latency: float = 0.0
    compute: float = _NOTHING
    replica: int = 0

    def answered(self, batch: Batch) -> None:
        """The model has answered it in ``batch``."""
        if batch.rows:
            self.compute = batch.compute / batch.rows
            if self.compute > self.limits.slow_compute:
                self.bits |= OutcomeBit.SLOW_COMPUTE
        self.replica = batch.replica
        self._close(batch.finished - self.arrived)

    def invalid(self) -> None:
        """Its answer holds NaN or infinity."""
        self.bits |= OutcomeBit.INVALID

    def failed(self, error: HeadgateError, now: float) -> None:
        """It failed: counted where it is the server's fault; overload is nobody's, and a bad request its client's."""
        if isinstance(error, DeadlineExceeded):
            self.bits |= _TIMEOUT
        elif error.status >= 500:
            self.bits |= OutcomeBit.ERROR
        else:
            self.arm = Arm.OTHER
        self._close(now - self.arrived)

    def abandoned(self, now: float) -> None:
        """Its client went away: perhaps because it took too long, so its time counts, and nothing else."""
        self._close(now - self.arrived)

    def _close(self, latency: float) -> None:
        limits = self.limits
        self.latency = latency
        if latency > limits.slow50:
            self.bits |= OutcomeBit.SLOW50
            if latency > limits.slow95:
                self.bits |= OutcomeBit.SLOW95
            if latency > limits.slow99:
                self.bits |= OutcomeBit.SLOW99
        if latency > limits.slo:
            self.bits |= OutcomeBit.OVER_SLO
        self.closed = True


class Outcomes:
    """The stream of one rollout. Its records are numbered from 1."""

    def __init__(self) -> None:
        self._open: deque[Decision] = deque()
        self._kept = bytearray()
        self._first = 1
        """Sequence number of the first record in ``_kept``."""
        self.dropped = 0

    def decide(self, request: InferRequest, arm: int, weight: float, key: int, limits: RolloutRoute) -> Decision:
        """``request`` was drawn, the candidate having ``weight`` (0 to 1); its outcome is written into what this returns."""
        decision = Decision(limits, arm, weight, key, request.arrived, request.deadline)
        self._open.append(decision)
        return decision

    def take(self, after: int, most: int, now: float) -> bytes:
        """Return up to ``most`` records that follow number ``after``; those up to it are forgotten."""
        self._settle(now)
        size = _RECORD.size
        taken = min(max(0, after + 1 - self._first), len(self._kept) // size)
        del self._kept[: taken * size]
        self._first += taken
        return bytes(self._kept[: most * size])

    def _settle(self, now: float) -> None:
        """Write down every outcome that no open one stands before."""
        waiting, kept, size = self._open, self._kept, _RECORD.size
        number = self._first + len(kept) // size
        while waiting:
            decision = waiting[0]
            if not decision.closed:
                if now > decision.deadline + OVERDUE_SECONDS:
                    decision.bits |= _TIMEOUT
                elif len(waiting) > OPEN:
                    decision.arm = Arm.OTHER
                else:
                    break
                decision.abandoned(min(now, decision.deadline))
            waiting.popleft()
            kept += _RECORD.pack(
                number,
                decision.key,
                decision.weight,
                decision.latency,
                decision.compute,
                decision.bits,
                decision.replica,
                decision.arm,
            )
            number += 1
        if len(kept) > KEPT * size:
            gone = len(kept) // size - KEPT // 2
            del kept[: gone * size]
            self._first += gone
            self.dropped += gone


class OutcomeStreams:
    """The streams of all rollouts under way."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        """Tells the numbers of this gateway from those of the one before it."""
        self._streams: dict[tuple[str, int], Outcomes] = {}

    def of(self, route: DeploymentRoute) -> Outcomes | None:
        """Return the stream of a deployment's rollout, a new one where it is new; None where none is under way, or it is a shadow, of
        whose requests none is drawn for the candidate."""
        if route.rollout is None or route.rollout.mirror:
            return None
        return self._streams.setdefault((route.name, route.rollout.number), Outcomes())

    def keep(self, table: RouteTable) -> None:
        """Forget the streams of rollouts that are not in ``table``."""
        there = {(route.name, route.rollout.number) for route in table.deployments if route.rollout is not None}
        self._streams = {key: stream for key, stream in self._streams.items() if key in there}

    def answer(self, pull: Pull, now: float, mirror: MirrorReport | None = None) -> bytes:
        """Return the answer to ``pull``, with what ``mirror`` says; of a rollout that is not known here it is empty."""
        stream = self._streams.get((pull.deployment, pull.rollout))
        records = stream.take(pull.after, pull.most, now) if stream is not None else b""
        dropped = stream.dropped if stream is not None else 0
        head = Pulled(deployment=pull.deployment, rollout=pull.rollout, epoch=self.epoch, dropped=dropped, mirror=mirror)
        return encode_outcomes(head, records)
