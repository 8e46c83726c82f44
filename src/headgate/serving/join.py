"""Requests with more rows than a batch may have: split into pieces, joined again in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Protocol as Interface

from msgspec.structs import replace

from headgate.errors import HeadgateError, InvalidRequest
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.tensors import row_offsets

_ROW = re.compile(r"(?<=', row )\d+")
"""The number in ``input 'x', row 3``: how models say which row is at fault, counted within what they were given."""
_OUR_ROW = re.compile(r"(?<=\Arow )\d+(?=: )")
"""The number that `at_fault` puts before what a model says of one row."""
_COPIED = 16 * 1024
"""Bytes of an output up to which a copy for each request costs less than a view."""


class Owner(Interface):
    """Who is told of the whole request."""

    def answer(self, request: InferRequest, outputs: list[OutputTensor], batch: Batch) -> None:
        """All pieces are back."""
        ...

    def fail(self, request: InferRequest, error: HeadgateError) -> None:
        """One piece failed."""
        ...


def split(request: InferRequest, plan: Plan, max_rows: int, owner: Owner) -> list[InferRequest]:
    """Return ``request`` as pieces of at most ``max_rows`` rows, in order, whose sink joins their answers for ``owner``."""
    starts = [*range(0, request.rows, max_rows), request.rows]
    pieces = []
    for start, stop in pairwise(starts):
        piece = InferRequest.of(len(plan.inputs))
        piece.rows = stop - start
        piece.key, piece.parameters, piece.priority = request.key, request.parameters, request.priority
        piece.arrived, piece.deadline, piece.piece = request.arrived, request.deadline, True
        piece.decision = request.decision
        pieces.append(piece)
    for index, shape in enumerate(request.shapes):
        if shape is None:
            continue
        data = memoryview(request.data[index])
        offsets = row_offsets(plan.inputs[index].dtype, data, shape, starts)
        for at, piece in enumerate(pieces):
            piece.shapes[index] = [piece.rows, *shape[1:]]
            piece.data[index] = data[offsets[at] : offsets[at + 1]]
    request.pieces = pieces
    join = _Join(request, owner)
    for piece in pieces:
        piece.sink = join
    return pieces


class _Join:
    """Collects the answers to the pieces of one request. The first failure fails the request."""

    __slots__ = ("_answers", "_left", "_owner", "_request")

    def __init__(self, request: InferRequest, owner: Owner) -> None:
        self._request = request
        self._owner = owner
        self._left = len(request.pieces)
        self._answers: dict[int, InferResponse] = {}

    def answered(self, piece: InferRequest, response: InferResponse) -> None:
        """One piece is back; its data may lie in a buffer that the next batch overwrites, so it is copied."""
        outputs = [OutputTensor(out.name, out.dtype, out.shape, bytes(out.data)) for out in response.outputs]
        self._answers[id(piece)] = replace(response, outputs=outputs)
        self._left -= 1
        if not self._left:
            self._request.started = max(piece.started or 0.0 for piece in self._request.pieces)
            outputs, batch = _joined([self._answers[id(piece)] for piece in self._request.pieces])
            self._owner.answer(self._request, outputs, batch)

    def failed(self, piece: InferRequest, error: HeadgateError) -> None:
        """One piece failed, and with it the request; a row that the error names is counted from the start of the request."""
        before = sum(other.rows for other in self._request.pieces[: self._request.pieces.index(piece)])
        if before:
            patterns = [_OUR_ROW, _ROW] if isinstance(error, InvalidRequest) else [_OUR_ROW]
            text = str(error)
            for pattern in patterns:
                text = pattern.sub(lambda match: str(int(match[0]) + before), text)
            error = type(error)(text) if text != str(error) else error
        self._owner.fail(self._request, error)


def _joined(answers: list[InferResponse]) -> tuple[list[OutputTensor], Batch]:
    """Return the outputs of consecutive pieces as one, and their times added up."""
    outputs = []
    for same in zip(*(answer.outputs for answer in answers), strict=True):
        rows = sum(output.shape[0] for output in same)
        data = b"".join(output.data for output in same)
        outputs.append(OutputTensor(same[0].name, same[0].dtype, (rows, *same[0].shape[1:]), data))
    batch = Batch(
        sum(answer.batch.compute for answer in answers),
        sum(answer.batch.rows for answer in answers),
        max(answer.batch.finished for answer in answers),
        answers[-1].batch.replica,
    )
    return outputs, batch


def cut(outputs: list[OutputTensor], batch: list[InferRequest]) -> Iterable[tuple[InferRequest, list[OutputTensor]]]:
    """Return each request of a batch with its own rows of the outputs."""
    rows = [request.rows for request in batch]
    columns = [_pieces(output, rows) for output in outputs]
    return zip(batch, map(list, zip(*columns, strict=True)), strict=True)


def at_fault(batch: list[InferRequest], faults: Mapping[int, HeadgateError]) -> Iterator[tuple[InferRequest, HeadgateError]]:
    """Yield each request of a batch of which a row failed, with what is said of its first such row, counted from its own start."""
    start = 0
    for request in batch:
        row = next((row for row in range(start, start + request.rows) if row in faults), None)
        if row is not None:
            error = faults[row]
            alone = request.rows == 1 and not request.piece
            yield request, error if alone else type(error)(f"row {row - start}: {error}")
        start += request.rows


def _pieces(output: OutputTensor, rows: list[int]) -> list[OutputTensor]:
    """Cut one output into pieces of so many rows."""
    name, dtype, shape = output.name, output.dtype, output.shape
    data = bytes(output.data) if len(output.data) <= _COPIED else memoryview(output.data)
    offsets = row_offsets(dtype, data, shape, list(accumulate(rows, initial=0)))
    shapes = {count: (count, *shape[1:]) for count in set(rows)}
    cuts = zip(rows, pairwise(offsets), strict=True)
    return [OutputTensor(name, dtype, shapes[count], data[start:stop]) for count, (start, stop) in cuts]
