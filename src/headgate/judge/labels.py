"""Late labels, unpaired: two arms, each label right or wrong, in the order in which they arrive.

Who produced *this* wrong answer is a biased question when the labels of one arm come later than those of the other, so the
conditional process is not used. Instead the i-th label of the candidate and the i-th of the baseline make a block, and the gambler
bets with what he has learned from earlier blocks:

    factor = p_c(y_c) p_b(y_b) / (p_0(y_c) p_0(y_b)),     p_g(1) = (wrong_g + 1/2) / (blocks + 1),   p_0 = (p_c + p_b) / 2

If both arms err at the same rate, the mean of ``p_c/p_0`` and that of ``p_b/p_0`` sum to 2, so their product, the mean of the factor, is
at most 1. He bets only while ``p_c > p_b`` (else the factor is 1), which makes the test one-sided: ``p_c/p_0`` then grows with y, and
a candidate that errs less can only lower its mean. Any stopping time, any allocation, any rate.

Source: Turner, Ly and Grunwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping", Journal of
Statistical Planning and Inference 2024 (arXiv 2106.02693), section 2 (2x2 tables); the smoothing is Krichevsky and Trofimov's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.judge.evalue import Floats

WAITING = 4096
"""Labels of one arm kept for a partner. Beyond it new ones of that arm are left out: decided by the length, never by the label."""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the test: four counts, the evidence, and the labels that wait."""

    blocks: int = 0
    wrong_candidate: int = 0
    wrong_baseline: int = 0
    """Wrong ones within closed blocks."""
    log_e: float = 0.0
    waiting_candidate: bytes = b""
    waiting_baseline: bytes = b""
    """One byte per label, 1 for wrong; at most one of the two is not empty."""
    left_out: int = 0
    """Labels for which there was no room to wait."""


def log_factors(candidate: npt.ArrayLike, baseline: npt.ArrayLike, seen: tuple[int, int, int] = (0, 0, 0)) -> Floats:
    """Return the log factor of each block, shape ``(..., n)``.

    ``candidate`` and ``baseline``, shape ``(..., n)``, are the labels in block order, 1 for wrong; ``seen`` is how many blocks came before,
    and how many labels of the candidate and of the baseline were wrong in them.
    """
    y_c, y_b = np.asarray(candidate, float), np.asarray(baseline, float)
    blocks = seen[0] + np.arange(y_c.shape[-1])
    p_c = (seen[1] + np.cumsum(y_c, axis=-1) - y_c + 0.5) / (blocks + 1.0)
    p_b = (seen[2] + np.cumsum(y_b, axis=-1) - y_b + 0.5) / (blocks + 1.0)
    p_0 = (p_c + p_b) / 2.0

    def log_ratio(rate: Floats, label: Floats) -> Floats:
        chosen: Floats = np.where(label > 0, np.log(rate) - np.log(p_0), np.log1p(-rate) - np.log1p(-p_0))
        return chosen

    factors: Floats = np.where(p_c > p_b, log_ratio(p_c, y_c) + log_ratio(p_b, y_b), 0.0)
    return factors


def observe_labels(state: Labels, labels: Sequence[tuple[bool, bool]]) -> Labels:
    """Return the state after ``labels``, pairs of (of the candidate?, wrong?) in the order they arrived."""
    queues = {True: bytearray(state.waiting_candidate), False: bytearray(state.waiting_baseline)}
    closed: list[tuple[int, int]] = []
    left_out = 0
    for ours, wrong in labels:
        other = queues[not ours]
        if other:
            partner = other.pop(0)
            closed.append((int(wrong), partner) if ours else (partner, int(wrong)))
        elif len(queues[ours]) < WAITING:
            queues[ours].append(int(wrong))
        else:
            left_out += 1
    log_e, pairs = state.log_e, np.array(closed, dtype=np.int64).reshape(-1, 2)
    for factor in log_factors(pairs[:, 0], pairs[:, 1], (state.blocks, state.wrong_candidate, state.wrong_baseline)).tolist():
        log_e += factor  # one after the other: the same sum however the labels are cut into batches
    return Labels(
        blocks=state.blocks + len(closed),
        wrong_candidate=state.wrong_candidate + int(pairs[:, 0].sum()),
        wrong_baseline=state.wrong_baseline + int(pairs[:, 1].sum()),
        log_e=log_e,
        waiting_candidate=bytes(queues[True]),
        waiting_baseline=bytes(queues[False]),
        left_out=state.left_out + left_out,
    )
