"""The first bad event of each key: a user who is sent to one arm for good is one draw of chance, however often he calls.

A heavy user with bad luck would otherwise be counted a thousand times as if a thousand draws had failed, and healthy candidates are rolled
back (tests/judge shows how often). Under the sharp null hypothesis, that no request's fate depends on its arm, the arms of the first events
of different keys are independent draws, and the conditional process is exact.

The set of keys is bounded. When it is full, events of keys it does not hold are left out and counted as such: whether there is room is
known before the event and does not depend on its arm, so the guarantee stands, and the evidence of this metric stays as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


class FirstEvents(NamedTuple):
    """Which of some events count."""

    counted: npt.NDArray[np.bool_]
    seen: Keys
    """All keys seen so far, sorted."""
    left_out: int
    """Events not counted because the set is full."""


def first_events(seen: Keys, keys: Keys, limit: int) -> FirstEvents:
    """Return which events of ``keys``, shape ``(n,)`` in their order, are the first of theirs; key 0 is nobody's and always counts.

    ``seen`` holds earlier keys, sorted and at most ``limit``.
    """
    fresh = (keys != 0) & ~_within(seen, keys)
    _, firsts = np.unique(keys[fresh], return_index=True)
    positions = np.flatnonzero(fresh)[np.sort(firsts)]
    admitted = positions[: max(limit - len(seen), 0)]
    counted = keys == 0
    counted[admitted] = True
    grown = np.sort(np.concatenate([seen, keys[admitted]]))
    return FirstEvents(counted, grown, int((fresh & ~_within(grown, keys)).sum()))


def _within(ordered: Keys, keys: Keys) -> npt.NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(keys), dtype=bool)
    found = ordered[np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)]
    return np.asarray(found == keys)
