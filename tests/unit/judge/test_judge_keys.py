"""The first bad event of each key."""

from __future__ import annotations

from typing import Any

import numpy as np

from headgate.judge.keys import first_events


def keys(*values: int) -> Any:
    """Return keys as the state holds them."""
    return np.array(values, dtype=np.uint64)


def test_only_the_first_counts() -> None:
    """A key that has had its event, earlier or in this batch, has no second; 0 is nobody's key."""
    first = first_events(keys(5, 9), keys(9, 3, 0, 3, 0, 7), 100)
    assert first.counted.tolist() == [False, True, True, False, True, True]
    assert first.seen.tolist() == [3, 5, 7, 9]
    assert first.left_out == 0


def test_a_full_memory_leaves_out_and_says_so() -> None:
    """In the order they come keys are taken in while there is room; later ones are counted as left out, each time they appear."""
    first = first_events(keys(), keys(8, 2, 6, 8, 6, 0), 2)
    assert first.counted.tolist() == [True, True, False, False, False, True]
    assert first.seen.tolist() == [2, 8]
    assert first.left_out == 2
    assert first_events(first.seen, keys(6, 2), 2).left_out == 1


def test_the_largest_hash_is_a_key() -> None:
    """All 64 bits are told apart."""
    first = first_events(keys(2**64 - 1), keys(2**64 - 1, 2**64 - 2), 10)
    assert first.counted.tolist() == [False, True]
