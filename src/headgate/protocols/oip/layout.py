"""What stands around the tensors of binary requests, read once.

Clients that send tensors in binary form send the same JSON before them again and again: names, shapes and wishes stay, only the blobs
change. What has been read and checked of such a JSON is kept by its bytes, with the plan it was checked against; a request with the
same JSON and the same length then costs a look-up and a slice. The same holds for protocol buffers, by their skeletons.
"""

from __future__ import annotations

from typing import NamedTuple

from headgate.protocols.base import InferRequest, Plan

_KEPT = 256
_LONGEST = 2048
"""Bytes of a JSON that is kept."""


class Layout(NamedTuple):
    """Where the blobs of a request lie, and all that its JSON says."""

    cuts: list[tuple[int, int, int]]
    """Index of the input, and where its blob starts and ends in the body."""
    example: InferRequest
    """A request that was read the long way; its fields but the data are those of every other."""

    def request(self, body: memoryview) -> InferRequest:
        """Return the request that ``body`` is."""
        first = self.example
        request = InferRequest(len(first.data))
        for index, start, stop in self.cuts:
            request.data[index] = body[start:stop]
        request.shapes = first.shapes
        request.outputs, request.wire, request.parameters = first.outputs, first.wire, first.parameters
        request.timeout, request.priority = first.timeout, first.priority
        request.rows, request.key = first.rows, first.key
        return request


def known(plan: Plan, json: bytes, length: int) -> Layout | None:
    """Return the layout of a body of ``length`` bytes that begins with ``json``, if it is kept."""
    found: Layout | None = plan.notes.get((json, length))
    return found


def keep(plan: Plan, json: bytes, length: int, request: InferRequest, order: list[int]) -> None:
    """Keep the layout of a request that has been read the long way, where nothing in its blobs had to be checked.

    ``order`` holds the indices of its inputs as they follow each other in the body.
    """
    # Strings and booleans are checked byte by byte, and an id belongs to one request, or to one sequence.
    if plan.kind not in ("float", "int") or plan.stateful or request.id is not None or len(json) > _LONGEST:
        return
    cuts, start = [], len(json)
    for index in order:
        stop = start + len(request.data[index])
        cuts.append((index, start, stop))
        start = stop
    if start != length:
        return  # some inputs came as JSON
    remember(plan, (json, length), cuts, request)


def remember(plan: Plan, key: object, cuts: list[tuple[int, int, int]], request: InferRequest) -> None:
    """Keep under ``key`` the layout of a request that has been read and checked the long way."""
    if len(plan.notes) >= _KEPT:
        plan.notes.clear()
    example = InferRequest(len(request.data))
    for name in ("shapes", "outputs", "wire", "parameters", "timeout", "priority", "rows", "key"):
        setattr(example, name, getattr(request, name))
    plan.notes[key] = Layout(cuts, example)
