"""What the judge looks at, and how sure it must be.

The metrics share one budget of false alarms: ``E = sum of v_j E_j`` with shares ``v_j`` that sum to 1 is an e-process whatever depends on
what, so ``E >= 1/alpha`` happens to a harmless candidate with probability at most ``alpha``. It alarms whenever one ``E_j`` alone
reaches ``1/(v_j alpha)``, as Bonferroni would, and sooner when several agree (Ramdas, Grunwald, Vovk and Shafer, arXiv 2210.01948,
section 4).
"""

from __future__ import annotations

import msgspec

from headgate.errors import SpecError
from headgate.judge.evalue import BETTER, WORSE, RatioTest
from headgate.judge.outcomes import mask
from headgate.judge.slo import Slo


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of bad event, compared between the arms."""

    name: str
    events: tuple[str, ...]
    """Names of `headgate.judge.outcomes.MEASURES`; one of them makes the request bad."""
    share: float
    """``v_j``, its share of the budget, relative to those of the other metrics in use."""
    timed: bool = False
    """Whether it depends on load: it is judged only while both arms carry alike."""
    prove: bool = False
    """Whether a promotion needs proof that it is safe. Only for events that are frequent enough to give one."""
    objective: str | None = None
    """The objective that bounds the same events absolutely: ``errors`` or ``latency``."""
    needs_objective: bool = False
    """Whether it is in use only where that objective is set."""


METRICS = (
    Metric(name="errors", events=("error", "timeout"), share=0.35, objective="errors"),
    Metric(name="invalid", events=("invalid",), share=0.15),
    Metric(name="slow50", events=("slow50",), share=0.1, timed=True, prove=True, objective="latency"),
    Metric(name="slow95", events=("slow95",), share=0.15, timed=True, prove=True, objective="latency"),
    Metric(name="slow99", events=("slow99",), share=0.1, timed=True, objective="latency"),
    Metric(name="over_slo", events=("over_slo",), share=0.05, timed=True, objective="latency", needs_objective=True),
    Metric(name="compute", events=("slow_compute",), share=0.1, timed=True),
)
"""What is judged unless something else is asked for."""


class JudgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the judge can be told. Fixed for the life of a rollout: changed in between, nothing would be guaranteed."""

    metrics: tuple[Metric, ...] = METRICS
    alpha: float = 0.01
    """Probability, over the whole rollout and however often one looks, that a harmless candidate is called harmful."""
    beta: float = 0.05
    """Probability that a candidate at the ceiling is called safe."""
    tolerance: float = 1.1
    """Times the baseline's bad events that are no harm; 1 or more."""
    ceiling: float = 1.5
    """Times the baseline's bad events that a promotion must exclude."""
    slo: Slo = Slo()
    guard_share: float = 0.1
    """Share of the budget, relative to those of the metrics, of each objective's absolute guard."""
    within_slo: str = "harm"
    """What harm within the objective is: ``harm``, or ``allow`` where it is shown that the candidate keeps the objective all the same."""
    min_events: int = 100
    """Judged requests of each arm below which nothing is called safe."""
    load_tolerance: float = 0.2
    """How much more one arm's replicas may carry than the other's while latency is judged."""
    max_keys: int = 32_768
    """Keys remembered per metric, 8 bytes each."""
    max_weights: int = 256
    """Distinct weights told apart per metric; events at further ones are left out and counted."""

    @property
    def test(self) -> RatioTest:
        """The two bounds of the ratio."""
        return RatioTest(self.tolerance, self.ceiling)

    @property
    def active(self) -> tuple[Metric, ...]:
        """The metrics in use: those of an objective that is not set are not."""
        return tuple(metric for metric in self.metrics if not metric.needs_objective or self.bound(metric.objective) is not None)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives that are set."""
        return tuple(name for name in ("errors", "latency") if self.bound(name) is not None)

    @property
    def budget(self) -> float:
        """The sum of all shares in use; each is divided by it."""
        return sum(metric.share for metric in self.active) + self.guard_share * len(self.objectives)

    def bound(self, objective: str | None) -> float | None:
        """Return the share of requests that may break ``objective``, or None if it is not set."""
        return {"errors": self.slo.errors, "latency": self.slo.slow_share}.get(objective or "")

    def __post_init__(self) -> None:
        problems = (
            (0 < self.alpha < 1, "alpha", "a probability above 0 and below 1", self.alpha),
            (0 < self.beta < 1, "beta", "a probability above 0 and below 1", self.beta),
            (1 <= self.tolerance < max(WORSE), "tolerance", f"1 or more and below {max(WORSE):g}", self.tolerance),
            (self.ceiling > max(self.tolerance, min(BETTER)), "ceiling", "more than the tolerance", self.ceiling),
            (self.guard_share > 0, "guard_share", "more than 0", self.guard_share),
            (self.within_slo in ("harm", "allow"), "within_slo", "harm or allow", self.within_slo),
            (self.min_events >= 0, "min_events", "0 or more", self.min_events),
            (self.load_tolerance >= 0, "load_tolerance", "0 or more", self.load_tolerance),
            (self.max_keys >= 1, "max_keys", "1 or more", self.max_keys),
            (self.max_weights >= 1, "max_weights", "1 or more", self.max_weights),
            (bool(self.active), "metrics", "at least one metric in use", self.metrics),
        )
        for good, field, expected, got in problems:
            if not good:
                raise SpecError(f"judge.{field}: expected {expected}, got {got!r}")
        _check_metrics(self.metrics)


def _check_metrics(metrics: tuple[Metric, ...]) -> None:
    names = [metric.name for metric in metrics]
    for index, metric in enumerate(metrics):
        field = f"judge.metrics[{index}]"
        if metric.name in names[:index]:
            raise SpecError(f"{field}.name: {metric.name!r} is there already; a metric has one share")
        if not metric.share > 0:
            raise SpecError(f"{field}.share: expected more than 0, got {metric.share!r}; leave out a metric that must not count")
        if metric.objective not in (None, "errors", "latency"):
            raise SpecError(f"{field}.objective: expected errors or latency, got {metric.objective!r}")
        try:
            if not mask(metric.events):
                raise SpecError(f"{field}.events: expected at least one event")
        except ValueError as error:
            raise SpecError(f"{field}.events: {error}") from None
