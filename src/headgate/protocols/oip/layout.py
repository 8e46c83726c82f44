"""What stands around the tensors of binary requests, read once.

Clients that send tensors in binary form send the same JSON before them again and again: names, shapes and wishes stay, only the blobs
change. What has been read and checked of such a JSON is kept by its bytes, with the plan it was checked against; a request with the
same JSON and the same length then costs a look-up and a slice. The same holds for protocol buffers, by their skeletons.
"""

from __future__ import annotations

from msgspec.structs import replace

from headgate.protocols.base import InferRequest, Plan
from headgate.tensors import Buffer

_KEPT = 256
_LONGEST = 2048
"""Bytes of a JSON that is kept."""
_COPIED = 4096
"""Bytes of a body up to which copying its blobs costs less than looking at them where they lie."""


class Layout:
    """Where the blobs of a request lie, and all that its JSON says."""

    __slots__ = ("_blobs", "_example")

    def __init__(self, cuts: list[tuple[int, int, int]], read: InferRequest) -> None:
        """Take from a request that has been ``read`` the long way what is the same in every other.

        ``cuts`` are the index of each input, and where its blob starts and ends in the body.
        """
        self._blobs: list[slice | None] = [None] * len(read.data)
        for index, start, stop in cuts:
            self._blobs[index] = slice(start, stop)
        self._example = InferRequest(
            read.shapes, [], None, read.parameters, read.outputs, read.timeout, read.priority, read.wire, read.rows, read.key
        )

    def request(self, body: Buffer) -> InferRequest:
        """Return the request that ``body`` is."""
        data = body if len(body) <= _COPIED else memoryview(body)
        return replace(self._example, data=[None if blob is None else data[blob] for blob in self._blobs])


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
    plan.notes[key] = Layout(cuts, request)
