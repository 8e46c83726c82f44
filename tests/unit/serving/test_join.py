"""A request that is split and joined again."""

from __future__ import annotations

import array

import pytest

from headgate.errors import HeadgateError, InvalidRequest, ModelFailed
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, OutputTensor, Plan
from headgate.serving.join import at_fault, cut, split
from headgate.tensors import DTYPES, frame_bytes, unframe_bytes


class Told:
    """Who is told of the whole request."""

    def __init__(self) -> None:
        self.errors: list[HeadgateError] = []

    def answer(self, request: InferRequest, outputs: list[OutputTensor], batch: Batch) -> None:
        """Not asked here."""

    def fail(self, request: InferRequest, error: HeadgateError) -> None:
        """Remember why."""
        self.errors.append(error)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def pieces(told: Told) -> list[InferRequest]:
    """Ten rows, in pieces of four."""
    spec = TensorSpec(name="x", dtype="FP32", shape=(-1,))
    plan = Plan("m", Signature(inputs=(spec,), outputs=(spec,), batched=True), max_rows=4, splittable=True)
    request = InferRequest.of(1)
    request.rows, request.shapes[0], request.data[0] = 10, [10], array.array("f", range(10)).tobytes()
    return split(request, plan, 4, told)


@pytest.mark.parametrize(("piece", "row", "expected"), [(0, 3, 3), (1, 0, 4), (2, 1, 9)])
def test_a_row_is_counted_from_the_start_of_the_request(
    piece: int, row: int, expected: int, pieces: list[InferRequest], told: Told
) -> None:
    """The model counts within the rows it was given; whoever sent the request counts his own. Values are left as they are."""
    pieces[piece].sink.failed(pieces[piece], InvalidRequest(f"input 'x', row {row} is 'row 1'; input 'y', row {row} is NaN"))
    assert [str(error) for error in told.errors] == [f"input 'x', row {expected} is 'row 1'; input 'y', row {expected} is NaN"]
    assert type(told.errors[0]) is InvalidRequest


def test_the_rows_at_fault_are_told_to_their_requests() -> None:
    """Each request hears of the first of its own rows that failed, counted from its own start; one with a single row needs no number."""
    one, three, other = InferRequest.of(1), InferRequest.of(1), InferRequest.of(1)
    one.rows, three.rows, other.rows = 1, 3, 1
    faults: dict[int, HeadgateError] = {0: ModelFailed("first"), 2: InvalidRequest("second"), 3: ModelFailed("third")}
    told = [(request, type(error), str(error)) for request, error in at_fault([one, three, other], faults)]
    assert told == [(one, ModelFailed, "first"), (three, InvalidRequest, "row 1: second")]


def test_the_row_of_a_piece_is_counted_from_the_start_of_the_request(pieces: list[InferRequest], told: Told) -> None:
    """The second piece begins with row 4, and its row 1 is row 5 of the request."""
    [(piece, error)] = at_fault(pieces[1:2], {1: InvalidRequest("x: too small")})
    piece.sink.failed(piece, error)
    assert [str(error) for error in told.errors] == ["row 5: x: too small"]


def test_other_errors_are_passed_on(pieces: list[InferRequest], told: Told) -> None:
    """What a model raises is its own text."""
    failed = ModelFailed("input 'x', row 1 of my own")
    pieces[1].sink.failed(pieces[1], failed)
    assert told.errors == [failed]


def test_a_batch_is_cut_into_the_rows_of_its_requests() -> None:
    """Each request gets its own rows of every output, in order, whatever their dtype and size; a shape is a tuple."""
    batch = [InferRequest.of(1) for _ in range(3)]
    for request, rows in zip(batch, (1, 2, 1), strict=True):
        request.rows = rows
    words = [b"a", b"", b"long word", b"d"]
    wide = bytes(range(256)) * 64
    outputs = [
        OutputTensor("y", DTYPES["FP32"], (4, 2), memoryview(array.array("f", range(8)).tobytes())),
        OutputTensor("text", DTYPES["BYTES"], [4], frame_bytes(words)),
        OutputTensor("wide", DTYPES["UINT8"], (4, len(wide)), wide * 4),
    ]
    found = list(cut(outputs, batch))
    assert [request for request, _ in found] == batch
    numbers, texts, wides = zip(*(own for _, own in found), strict=True)
    assert [(own.shape, list(array.array("f", bytes(own.data)))) for own in numbers] == [
        ((1, 2), [0, 1]), ((2, 2), [2, 3, 4, 5]), ((1, 2), [6, 7])
    ]  # fmt: skip
    assert [(own.shape, unframe_bytes(own.data, own.shape[0])) for own in texts] == [
        ((1,), words[:1]), ((2,), words[1:3]), ((1,), words[3:])
    ]  # fmt: skip
    assert [(own.shape, bytes(own.data)) for own in wides] == [
        ((1, len(wide)), wide), ((2, len(wide)), wide * 2), ((1, len(wide)), wide)
    ]  # fmt: skip
