"""A request that is split and joined again."""

from __future__ import annotations

import array

import pytest

from headgate.errors import HeadgateError, InvalidRequest, ModelFailed
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, OutputTensor, Plan
from headgate.serving.join import at_fault, split


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
    request = InferRequest(1)
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
    one, three, other = InferRequest(1), InferRequest(1), InferRequest(1)
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
