"""How far two answers to the same request agree, output by output: pure functions of bytes, without NumPy.

Floats agree within a tolerance; whole numbers, booleans and strings where they are the same. Of vectors of floats (scores of classes,
say) it is also told whether the largest element stands at the same place, and how alike their orders are. The work is bounded: of a
large output some rows are looked at, spread over all of them, and of a wide row the first elements.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from headgate.protocols.base import OutputTensor
from headgate.tensors import Buffer, DType, elements, row_offsets, unframe_bytes

RELATIVE, ABSOLUTE = 1e-3, 1e-6
"""Two floats agree where they differ by at most the second, plus the first times the live one."""
MOST_ELEMENTS = 1_000
"""Elements of an output that are looked at, as long as one row has fewer."""
WIDEST = 10_000
"""Elements of a row that are looked at, and strings of an output: where one begins only those before it tell."""
RANKED, SHORTEST, LONGEST = 4, 3, 1_000
"""Vectors whose orders are compared, of an output; and the elements they may have."""
INCOMPARABLE = 2.0
"""The difference of what has no numbers, and the largest there can be."""
SHOWN_VALUES, SHOWN_LETTERS = 32, 200
"""Of a row that is kept as an example."""


class Agreement(NamedTuple):
    """What was found of one output."""

    name: str
    exact: bool
    """The same bytes."""
    close: bool
    """Within the tolerance, as far as it was looked at."""
    vectors: int = 0
    same_top: int = 0
    ranked: int = 0
    rank_sum: float = 0.0
    """See `headgate.journal.OutputAgreement`."""
    difference: float = 0.0
    """The largest, relative to the larger of the two; 0 to `INCOMPARABLE`."""
    row: int = 0
    """Where that is."""


def compare(live: OutputTensor, other: OutputTensor | None, *, batched: bool) -> Agreement:
    """Return how ``other`` (None: there is no such output) agrees with ``live``.

    ``batched``: the first dimension counts rows, else the whole output is one.
    """
    if other is None or live.dtype.kind != other.dtype.kind or list(live.shape) != list(other.shape):
        return Agreement(live.name, exact=False, close=False, difference=INCOMPARABLE)
    tail = live.shape[1:] if batched else live.shape
    length = tail[-1] if tail and live.dtype.kind == "float" else 0
    rows, width = (live.shape[0] if batched else 1), elements(tail)
    seen = min(width, WIDEST)
    length = length if 1 < length <= seen else 0
    if not live.dtype.size and width:
        rows = min(rows, max(1, WIDEST // width))
    chosen = _spread(rows, max(1, MOST_ELEMENTS // seen) if seen else 0)
    if live.dtype is other.dtype and live.data == other.data:
        vectors = len(chosen) * (seen // length) if length else 0
        ranked = min(vectors, RANKED) if SHORTEST <= length <= LONGEST else 0
        return Agreement(live.name, True, True, vectors, vectors, ranked, float(ranked))
    return _look(live, other, [(row, row * width, row * width + seen) for row in chosen], length)


def _spread(rows: int, most: int) -> list[int]:
    """Return up to ``most`` of so many rows, evenly spread."""
    count = min(rows, most)
    return [at * rows // count for at in range(count)]


def _look(live: OutputTensor, other: OutputTensor, parts: list[tuple[int, int, int]], length: int) -> Agreement:
    """Compare parts: (row, its first element, where to stop). Vectors have ``length`` elements; 0: there are none."""
    close, vectors, same_top, ranked, rank_sum, difference, worst = True, 0, 0, 0, 0.0, 0.0, 0
    our, their = _reader(live), _reader(other)
    for row, start, stop in parts:
        mine, theirs = our(start, stop), their(start, stop)
        if mine != theirs:
            found = max(map(_difference, mine, theirs))
            if found > difference:
                difference, worst = found, row
            close = close and all(map(_close, mine, theirs))
        for at in range(0, len(mine) - length + 1, length) if length else ():
            one, two = mine[at : at + length], theirs[at : at + length]
            vectors += 1
            same_top += top(one) == top(two)
            if ranked < RANKED and SHORTEST <= length <= LONGEST and (alike := rank_correlation(one, two)) is not None:
                ranked, rank_sum = ranked + 1, rank_sum + alike
    return Agreement(live.name, False, close, vectors, same_top, ranked, rank_sum, difference, worst)


def _reader(tensor: OutputTensor) -> Callable[[int, int], list[Any]]:
    """Return what reads the elements from one place to another."""
    total = elements(tensor.shape)
    if tensor.dtype.size:
        return lambda start, stop: values(tensor.dtype, tensor.data, total, start, stop)
    strings = values(tensor.dtype, tensor.data, total, 0, min(total, WIDEST))
    return lambda start, stop: strings[start:stop]


def values(dtype: DType, data: Buffer, total: int, start: int, stop: int) -> list[Any]:
    """Return the elements ``start`` to ``stop`` of so many in ``data``: numbers, booleans or bytes."""
    if not dtype.size:
        first, last = row_offsets(dtype, data, [total], [start, stop])
        return unframe_bytes(memoryview(data)[first:last], stop - start)
    part = memoryview(data)[start * dtype.size : stop * dtype.size]
    if dtype.typecode:
        return part.cast("B").cast(dtype.typecode).tolist()  # type: ignore[call-overload,no-any-return]  # the code is one of ours
    if dtype.name == "BF16":
        part = memoryview(b"".join(b"\0\0" + bytes(part[at : at + 2]) for at in range(0, len(part), 2)))
        return part.cast("f").tolist()
    return list(struct.unpack(f"<{stop - start}e", part))


def _close(live: Any, other: Any) -> bool:
    if live == other:
        return True
    if not isinstance(live, float):
        return False
    if math.isnan(live) and math.isnan(other):
        return True
    return abs(live - other) <= ABSOLUTE + RELATIVE * abs(live) if math.isfinite(live) else False


def _difference(live: Any, other: Any) -> float:
    if live == other or (isinstance(live, float) and math.isnan(live) and math.isnan(other)):
        return 0.0
    if isinstance(live, bytes) or not (math.isfinite(live) and math.isfinite(other)):
        return INCOMPARABLE
    return float(min(INCOMPARABLE, abs(live / 2 - other / 2) / max(abs(live / 2), abs(other / 2))))  # halves: no sum overflows


def top(vector: Sequence[float]) -> int:
    """Return the place of the largest element, the first of several; NaN is none."""
    return max(range(len(vector)), key=lambda at: -math.inf if math.isnan(vector[at]) else vector[at])


def rank_correlation(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Return Spearman's coefficient of two vectors of one length, -1 to 1, ties at their average; None where all of one are equal,
    or some are NaN."""
    if any(map(math.isnan, one)) or any(map(math.isnan, two)):
        return None
    ours, theirs = _ranks(one), _ranks(two)
    middle = (len(ours) - 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(ours, theirs, strict=True))
    spread = sum((a - middle) ** 2 for a in ours) * sum((b - middle) ** 2 for b in theirs)
    return both / math.sqrt(spread) if spread else None


def _ranks(vector: Sequence[float]) -> list[float]:
    order = sorted(range(len(vector)), key=vector.__getitem__)
    ranks = [0.0] * len(vector)
    first = 0
    for last in range(1, len(order) + 1):
        if last == len(order) or vector[order[last]] != vector[order[first]]:
            for at in order[first:last]:
                ranks[at] = (first + last - 1) / 2
            first = last
    return ranks


def shown(dtype: DType, shape: Sequence[int], data: Buffer, row: int, *, batched: bool) -> Any:
    """Return one row as JSON has it: a value, or a list of the first `SHOWN_VALUES` in the order they lie, with the number of the rest."""
    rows = shape[0] if batched else 1
    total = elements(shape)
    width = total // rows if rows else 0
    if not width:
        return []
    found = values(dtype, data, total, row * width, row * width + min(width, SHOWN_VALUES))
    plain = [_plain(value) for value in found]
    if width > SHOWN_VALUES:
        plain.append(f"and {width - SHOWN_VALUES} more")
    return plain[0] if len(shape) == (1 if batched else 0) else plain


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value[:SHOWN_LETTERS].decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it
    return value
