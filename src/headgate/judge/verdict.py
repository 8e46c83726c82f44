"""What the judge says: a verdict, its reason, and the evidence in numbers and in words."""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What follows for the rollout."""

    HARM = "harm"
    """The candidate is worse than may be: take it back."""
    SAFE = "safe"
    """Shown, where it can be shown, that it is not worse than may be: promote it. Said only when asked."""
    UNDECIDED = "undecided"
    """Neither is shown; the reason says what is missing."""
    ENVIRONMENT = "environment"
    """Both arms break an objective: taking the candidate back would not help. Hold, and call a person."""


class Reason(StrEnum):
    """Why; one word for programs, as `Judgement.text` is a sentence for people."""

    WORSE = "worse"
    """HARM: more bad events than the baseline's."""
    BREAKS_OBJECTIVE = "breaks_objective"
    """HARM: the candidate breaks an objective which the baseline keeps."""
    PROVEN = "proven"
    """SAFE."""
    BOTH_BREAK_OBJECTIVE = "both_break_objective"
    """ENVIRONMENT."""
    NO_TRAFFIC = "no_traffic"
    """UNDECIDED, as all that follow: an arm has had no judged request."""
    INSTANCE_FAULT = "instance_fault"
    """The evidence comes from one replica, without which the candidate would be as good as the baseline: replace that replica first."""
    WITHIN_OBJECTIVE = "within_objective"
    """Worse than the baseline, but shown to keep the objective, and that is allowed."""
    CAPACITY = "capacity"
    """The replicas of the arms do not carry alike, so latency is not judged."""
    TOO_FEW = "too_few"
    """Fewer judged requests than asked for."""
    NOT_PROVEN = "not_proven"
    """No harm, but safety is not shown either."""
    WATCHING = "watching"
    """No harm so far, and nobody has asked for more."""


class MetricEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. Pairs are (candidate, baseline); logarithms are natural."""

    name: str
    requests: tuple[int, int]
    bad: tuple[int, int]
    log_e: float
    """Evidence of harm; 0 at the beginning."""
    log_needed: float
    """Where this metric alone would be called harm."""
    ratio: tuple[float, float | None]
    """Confidence sequence of the ratio of the arms' rates; None: no upper end yet."""
    log_e_safe: float
    log_needed_safe: float
    must_prove: bool
    """Whether a promotion waits for it."""
    left_out: int
    closed: int
    excuse: Reason | None = None
    """Why its evidence does not count: INSTANCE_FAULT or WITHIN_OBJECTIVE."""
    text: str = ""
    """The same in a sentence, for a person: `sentence`."""

    @property
    def rates(self) -> tuple[float, float]:
        """Share of bad requests in each arm; 0 without requests."""
        return _rate(self.bad[0], self.requests[0]), _rate(self.bad[1], self.requests[1])

    @property
    def proven(self) -> bool:
        """Whether it is shown to be safe."""
        return self.log_e_safe >= self.log_needed_safe

    def sentence(self) -> str:
        """Return the evidence in words."""
        (ours, theirs), (lower, upper) = self.rates, self.ratio
        parts = [
            f"{self.name}: candidate {self.bad[0]:,} of {self.requests[0]:,} requests ({ours:.3g}), "
            f"baseline {self.bad[1]:,} of {self.requests[1]:,} ({theirs:.3g})",
            f"ratio {lower:.2g} to {'any' if upper is None else f'{upper:.2g}'}",
            f"evidence of harm {evidence_text(self.log_e)} of {evidence_text(self.log_needed)}",
        ]
        if self.must_prove:
            parts.append(f"of safety {evidence_text(self.log_e_safe)} of {evidence_text(self.log_needed_safe)}")
        if self.closed:
            parts.append(f"{self.closed:,} requests not judged while the replicas did not carry alike")
        if self.left_out:
            parts.append(f"{self.left_out:,} bad events left out because the memory for keys or weights is full")
        return "; ".join(parts)


class GuardEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One objective, held against each arm alone. Pairs are (candidate, baseline)."""

    objective: str
    bound: float
    """Share of the requests that may break it."""
    requests: tuple[int, int]
    bad: tuple[int, int]
    log_e_breaks: tuple[float, float]
    """Evidence that the arm breaks it."""
    log_e_keeps: tuple[float, float]
    """Evidence that the arm keeps it."""
    breaks: tuple[bool, bool]
    """Whether that is shown."""
    keeps: tuple[bool, bool]
    excuse: Reason | None = None
    """Why what the candidate broke does not count: INSTANCE_FAULT."""
    text: str = ""
    """The same in a sentence, for a person: `sentence`."""

    def sentence(self) -> str:
        """Return the evidence in words."""
        arms = (
            f"{name} {bad:,} of {requests:,} ({_rate(bad, requests):.3g}{', breaks it' if breaks else ', keeps it' if keeps else ''})"
            for name, bad, requests, breaks, keeps in zip(
                ("candidate", "baseline"), self.bad, self.requests, self.breaks, self.keeps, strict=True
            )
        )
        return f"{self.objective} may be at most {self.bound:.3g}: {', '.join(arms)}"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with everything it rests on, fit to be stored."""

    verdict: Verdict
    reason: Reason
    text: str
    """What happened and what follows, in words."""
    log_e: float
    """Evidence of harm over all metrics."""
    log_needed: float
    requests: tuple[int, int]
    """Judged requests of the candidate and of the baseline."""
    metrics: tuple[MetricEvidence, ...]
    guards: tuple[GuardEvidence, ...]
    load: tuple[float, float] | None
    """Requests a second and replica, of the candidate and of the baseline."""


def evidence_text(log_e: float) -> str:
    """Return an e-value as people read it: ``0.31``, ``4.2``, ``130``, ``10^9``."""
    if log_e > math.log(1e6):
        return f"10^{int(log_e / math.log(10))}"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _rate(bad: int, requests: int) -> float:
    return bad / requests if requests else 0.0
