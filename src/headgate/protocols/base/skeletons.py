"""Messages that have been read before, but for their tensors.

A client sends the same protocol buffer again and again; names, shapes and wishes stay, only the bytes of the tensors change. A tensor
is a field with a length: with other bytes of the same length in its place, every other field of the message is what it was. So a
message of the same length that equals a known one everywhere outside the tensors (its skeleton) means the same, and no parser has to
look at it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from headgate.tensors import Buffer

T = TypeVar("T")
Cut = tuple[int, int]
"""Where the bytes of a tensor start and stop."""

MOST_KEPT = 256
LONGEST = 2048
"""Bytes of a skeleton that is kept."""
_MOST_CUTS = 4
"""Ways to cut messages of one length that are tried."""


class Skeletons(Generic[T]):
    """What is known of messages, by their skeletons. Bounded, whatever clients send."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[tuple[list[slice], dict[bytes, T]]]] = {}
        """Length of the message -> for each way to cut it: what is left outside the cuts, and what is known by that."""
        self._kept = 0

    def find(self, message: Buffer) -> T | None:
        """Return what is known of ``message``, or None."""
        for outside, known in self._by_length.get(len(message), ()):
            found = known.get(bytes(message[outside[0]]) if len(outside) == 1 else b"".join([message[part] for part in outside]))
            if found is not None:
                return found
        return None

    def keep(self, message: Buffer, cuts: Sequence[Cut], value: T) -> bool:
        """Know ``value`` of all messages like ``message``, whose tensors lie at ``cuts`` (ascending); False if there is no room."""
        outside = [
            slice(start, stop)
            for start, stop in zip([0, *(stop for _, stop in cuts)], [*(start for start, _ in cuts), len(message)], strict=True)
        ]
        outside = [part for part in outside if part.start < part.stop]
        skeleton = b"".join([message[part] for part in outside])
        if len(skeleton) > LONGEST:
            return False
        if self._kept >= MOST_KEPT:
            self._by_length.clear()
            self._kept = 0
        ways = self._by_length.setdefault(len(message), [])
        known = next((known for parts, known in ways if parts == outside), None)
        if known is None:
            if len(ways) == _MOST_CUTS:
                return False
            ways.append((outside, known := {}))
        self._kept += skeleton not in known
        known[skeleton] = value
        return True
