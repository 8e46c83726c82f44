"""What a shadow has shown: how often its answers differ, and whether it has more bad events than the live version. Pure.

The counts of a gateway only grow, so the newest report of each says all, and the same one may come any number of times. Whether there is
harm is asked of pairs (`headgate.judge.paired`): answers that differ, where a bound was set for them, and bad events of one side alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from headgate.journal import MirrorReport, OutputAgreement
from headgate.judge.bernoulli import rate_confidence
from headgate.judge.paired import Pairs, judge_pairs
from headgate.judge.verdict import evidence_text

LARGEST_BOUND = 0.999


class OutputEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One output. Shares are of the compared pairs, 0 to 1."""

    name: str
    compared: int
    exact: float
    """With the same bytes."""
    differing: float
    """Beyond the tolerance, and the confidence sequence of that share."""
    confidence: tuple[float, float]
    same_top: float | None
    """Share of the vectors whose largest element stands at the same place; None: it has no vectors of floats."""
    rank: float | None
    """Mean rank correlation of vectors, -1 to 1."""


class ShadowEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow has shown. Pairs are (candidate, baseline); logarithms are natural."""

    pairs: int
    """Copies that came back, answered or failed."""
    compared: int
    differed: int
    difference: tuple[float, float]
    """Confidence sequence of the share of answers that differ."""
    bound: float | None
    """Of that share."""
    bad: tuple[int, int]
    """Pairs in which that side had a bad event: an error, NaN or infinity."""
    alone: tuple[int, int]
    """The same where the other side had none."""
    seconds: tuple[float, float] | None
    """Mean time to the answer, over pairs of which both were answered; the copies wait behind other ones, so it is no verdict."""
    dropped: int
    not_compared: int
    outputs: tuple[OutputEvidence, ...]
    log_e_difference: float
    log_e_events: float
    log_needed: float
    """Where one of the two alone is harm."""
    harm: bool
    text: str


def total(reports: Iterable[MirrorReport]) -> MirrorReport:
    """Return the sums of what gateways, or one before and after its restart, have reported; without examples."""
    whole, outputs = MirrorReport(), dict[str, OutputAgreement]()
    for report in reports:
        _add(whole, report)
        for output in report.outputs:
            _add(outputs.setdefault(output.name, OutputAgreement(name=output.name)), output)
    return msgspec.structs.replace(whole, outputs=list(outputs.values()))


def _add(into: msgspec.Struct, counts: msgspec.Struct) -> None:
    for field in counts.__struct_fields__:
        value = getattr(counts, field)
        if isinstance(value, int | float):
            setattr(into, field, getattr(into, field) + value)


def shadow_evidence(report: MirrorReport, *, alpha: float, bound: float | None) -> ShadowEvidence:
    """Return what ``report`` says. ``bound``, 0 to 1, is the share of answers that may differ; None: any."""
    state = Pairs(
        compared=report.compared if bound is not None else 0,
        differed=report.differed if bound is not None else 0,
        candidate_only=report.candidate_only,
        baseline_only=report.baseline_only,
    )
    found = judge_pairs(state, alpha=alpha, delta_max=min(LARGEST_BOUND, bound or LARGEST_BOUND))
    answered = report.answered
    evidence = ShadowEvidence(
        pairs=report.pairs,
        compared=report.compared,
        differed=report.differed,
        difference=rate_confidence(report.differed, report.compared, alpha),
        bound=bound,
        bad=(report.candidate_only + report.both, report.baseline_only + report.both),
        alone=(report.candidate_only, report.baseline_only),
        seconds=(report.candidate_seconds / answered, report.baseline_seconds / answered) if answered else None,
        dropped=report.dropped,
        not_compared=report.not_compared,
        outputs=tuple(_output(output, alpha) for output in report.outputs),
        log_e_difference=found.log_e_difference,
        log_e_events=found.log_e_events,
        log_needed=math.log(3.0) - math.log(alpha),
        harm=found.harm,
        text="",
    )
    return msgspec.structs.replace(evidence, text=_sentence(evidence))


def _output(output: OutputAgreement, alpha: float) -> OutputEvidence:
    compared, differing = output.compared, output.compared - output.close
    return OutputEvidence(
        name=output.name,
        compared=compared,
        exact=output.exact / compared if compared else 0.0,
        differing=differing / compared if compared else 0.0,
        confidence=rate_confidence(differing, compared, alpha),
        same_top=output.same_top / output.vectors if output.vectors else None,
        rank=output.rank_sum / output.ranked if output.ranked else None,
    )


def _sentence(found: ShadowEvidence) -> str:
    if not found.pairs:
        dropped = f"; {found.dropped:,} were dropped" if found.dropped else ""
        return f"Nothing to compare: no copy of a request has come back yet{dropped}."
    lower, upper = found.difference
    share = found.differed / found.compared if found.compared else 0.0
    differ = f"{found.differed:,} of {found.compared:,} answers differ ({_percent(share)}; {_percent(lower)} to {_percent(upper)})"
    if found.bound is not None:
        needed = f"{evidence_text(found.log_e_difference)} of {evidence_text(found.log_needed)}"
        differ += f", {_percent(found.bound)} may, evidence of more {needed}"
    ours, theirs = found.bad
    bad = f"bad events: candidate {ours:,}, baseline {theirs:,} of {found.pairs:,} pairs"
    if any(found.alone):
        bad += f", evidence of harm {evidence_text(found.log_e_events)} of {evidence_text(found.log_needed)}"
    parts = [differ, bad, *([f"{found.dropped:,} copies dropped"] if found.dropped else [])]
    return f"{'Harm: ' if found.harm else ''}{'; '.join(parts)}."


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
