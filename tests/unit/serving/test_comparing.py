"""Answers side by side: what agrees, by how much, and that looking costs little."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from headgate.protocols.base import OutputTensor
from headgate.serving import comparing
from headgate.serving.comparing import INCOMPARABLE, compare, rank_correlation, shown, top
from headgate.tensors import DTYPES, frame_bytes, from_numpy


def tensor(values: Any, dtype: str = "FP32", name: str = "y") -> OutputTensor:
    """An output with these values, in the binary form."""
    kind = DTYPES[dtype]
    if dtype == "BYTES":
        array = np.array(values, dtype=object)
        return OutputTensor(name, kind, list(array.shape), frame_bytes([str(value).encode() for value in array.ravel()]))
    array = np.array(values, dtype="float32" if dtype == "BF16" else kind.numpy)
    return OutputTensor(name, kind, list(array.shape), bytes(from_numpy(kind, array)))


FLOATS = ["FP16", "FP32", "FP64", "BF16"]


@pytest.mark.parametrize("dtype", [*FLOATS, "BOOL", "INT8", "UINT64", "INT64", "BYTES"])
def test_the_same_bytes_agree_exactly(dtype: str) -> None:
    """Whatever they are."""
    found = compare(tensor([[0, 1, 1]], dtype), tensor([[0, 1, 1]], dtype), batched=True)
    assert found.exact and found.close and found.difference == 0
    assert (found.vectors, found.same_top) == ((1, 1) if dtype in FLOATS else (0, 0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_is_read_as_it_is(dtype: str) -> None:
    """The difference is relative to the larger of the two, and says at which row it is the largest."""
    found = compare(tensor([1.0, 1.0, 4.0], dtype), tensor([1.0, 1.25, 2.0], dtype), batched=True)
    assert not found.exact and not found.close
    assert found.difference == pytest.approx(0.5) and found.row == 2


@pytest.mark.parametrize(
    ("live", "other", "close"),
    [
        (1000.0, 1000.9, True),
        (1000.0, 1001.1, False),
        (0.0, 9e-7, True),
        (0.0, 2e-6, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (1.0, math.inf, False),
        (1.7e308, -1.7e308, False),
    ],
)
def test_the_tolerance(live: float, other: float, close: bool) -> None:
    """A thousandth of the live value and a millionth; NaN agrees with NaN, and nothing finite with infinity. No sum overflows."""
    found = compare(tensor([live], "FP64"), tensor([other], "FP64"), batched=True)
    assert found.close is close
    assert 0.0 <= found.difference <= INCOMPARABLE and math.isfinite(found.difference)


@pytest.mark.parametrize(
    ("dtype", "live", "other"), [("INT64", 10**6, 10**6 + 1), ("BOOL", True, False), ("BYTES", "cat", "cats"), ("UINT8", 3, 4)]
)
def test_what_is_no_float_agrees_only_where_it_is_the_same(dtype: str, live: Any, other: Any) -> None:
    """A label that is one off is another label."""
    assert not compare(tensor([live], dtype), tensor([other], dtype), batched=True).close


def test_another_shape_or_kind_cannot_agree() -> None:
    """Nor can an output that is not there; floats of another width can."""
    live = tensor([[1.0, 2.0]])
    for other in (None, tensor([[1.0, 2.0, 3.0]]), tensor([[1, 2]], "INT32")):
        found = compare(live, other, batched=True)
        assert (found.close, found.difference) == (False, INCOMPARABLE)
    assert compare(live, tensor([[1.0, 2.0]], "FP64"), batched=True).close


def test_the_largest_element_and_the_order() -> None:
    """Scores may all differ and still say the same; of each vector it is counted whether the first place is the same."""
    live = tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    other = tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]])
    found = compare(live, other, batched=True)
    assert not found.close and (found.vectors, found.same_top) == (2, 1)
    assert found.ranked == 2 and found.rank_sum == pytest.approx(1.0 + rank_correlation([0.1, 0.2, 0.7], [0.8, 0.1, 0.1]))  # type: ignore[operator]


def test_a_column_is_no_vector() -> None:
    """The batch axis orders nothing; without one, the only axis is a vector."""
    assert compare(tensor([1.0, 2.0, 3.0]), tensor([3.0, 2.0, 1.0]), batched=True).vectors == 0
    found = compare(tensor([1.0, 2.0, 3.0]), tensor([3.0, 2.0, 1.0]), batched=False)
    assert (found.vectors, found.same_top, found.rank_sum) == (1, 0, -1.0)


def test_rank_correlation_is_spearmans() -> None:
    """With ties at their average, as a correlation of the ranks gives it; constant vectors, and NaN, have none."""
    random = np.random.default_rng(1)
    for _ in range(50):
        one, two = random.integers(0, 6, 9).astype(float), random.integers(0, 6, 9).astype(float)

        def ranks(vector: Any) -> Any:
            return [(vector < value).sum() + ((vector == value).sum() - 1) / 2 for value in vector]

        assert rank_correlation(one.tolist(), two.tolist()) == pytest.approx(np.corrcoef(ranks(one), ranks(two))[0, 1])
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0, math.nan, 1.0], [1.0, 2.0, 3.0]) is None
    assert top([math.nan, 1.0, 2.0, 2.0]) == 2


@pytest.mark.parametrize(
    ("live", "dtype"),
    [
        (np.zeros((100_000, 30)), "FP32"),
        (np.zeros((1, 2_000_000)), "FP32"),
        ([["a"] * 10] * 20_000, "BYTES"),
        ([["a" * 9] * 50_000], "BYTES"),
    ],
    ids=["many rows", "one wide row", "many strings", "a row of strings"],
)
def test_looking_is_bounded(live: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large output no more elements are compared than one may look at, and a difference everywhere is still seen."""
    looked = 0
    close = comparing._close

    def counted(one: Any, two: Any) -> bool:
        nonlocal looked
        looked += 1
        return close(one, two)

    monkeypatch.setattr(comparing, "_close", counted)
    array = np.array(live, dtype=object if dtype == "BYTES" else None)
    other = tensor(array + ("b" if dtype == "BYTES" else 1.0), dtype)
    mine = tensor(array, dtype)
    began = time.perf_counter()
    assert not compare(mine, other, batched=True).close
    assert looked <= comparing.WIDEST
    assert time.perf_counter() - began < 1.0


def test_a_difference_in_few_rows_is_found_where_all_are_looked_at() -> None:
    """Up to a thousand elements nothing is left out."""
    values = np.zeros((100, 10))
    values[57, 3] = 1.0
    found = compare(tensor(np.zeros((100, 10))), tensor(values), batched=True)
    assert not found.close and found.row == 57


def test_nothing_agrees_with_nothing() -> None:
    """No rows, or empty ones."""
    for shape in ((0,), (0, 3), (3, 0)):
        assert compare(tensor(np.zeros(shape)), tensor(np.zeros(shape)), batched=True).close


def test_a_row_is_shown_as_json_has_it() -> None:
    """A value, or the first values and how many more there are; text cut, and no NaN, which JSON has not."""
    batch = tensor([[1.5, math.nan], [2.5, math.inf]])
    assert shown(batch.dtype, batch.shape, batch.data, 1, batched=True) == [2.5, "inf"]
    column = tensor([1, 2, 3], "INT64")
    assert shown(column.dtype, column.shape, column.data, 2, batched=True) == 3
    words = tensor(["a" * 500, "ü"], "BYTES")
    assert shown(words.dtype, words.shape, words.data, 0, batched=True) == "a" * 200
    assert shown(words.dtype, words.shape, words.data, 1, batched=True) == "ü"
    wide = tensor(np.arange(100.0)[None])
    assert shown(wide.dtype, wide.shape, wide.data, 0, batched=True) == [*map(float, range(32)), "and 68 more"]
    assert shown(wide.dtype, [100], wide.data, 0, batched=False)[-1] == "and 68 more"
