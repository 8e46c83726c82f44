"""Flow control (RFC 9113, section 5.2): the sizes of windows, and what waits for one."""

from __future__ import annotations

from collections import deque

DEFAULT_WINDOW = 65_535
"""Of a stream and of the connection, until somebody says otherwise (section 6.9.2)."""
LARGEST_WINDOW = (1 << 31) - 1


class Backlog:
    """What one stream has been told to send and could not yet: a body, and what ends it.

    ``since`` is the time of the last progress, for whoever gives up on a client that takes nothing.
    """

    __slots__ = ("_parts", "ends", "owed", "since", "trailers")

    def __init__(self, since: float) -> None:
        self._parts: deque[memoryview] = deque()
        self.trailers: bytes | None = None
        """A header block to be sent after the body; it ends the stream."""
        self.ends = False
        """Nothing may be added."""
        self.owed = False
        """Somebody waits to be told that all has left."""
        self.since = since

    def add(self, data: bytes | memoryview) -> None:
        """Let ``data`` wait behind what waits already. It is not copied, so it must not change."""
        if len(data):
            self._parts.append(memoryview(data))

    @property
    def waits(self) -> bool:
        """Whether bytes of a body are left; a mere end needs no window."""
        return bool(self._parts)

    def take(self, most: int) -> memoryview:
        """Take off the next piece, of at most ``most`` bytes."""
        part = self._parts[0]
        if len(part) > most:
            self._parts[0] = part[most:]
            return part[:most]
        return self._parts.popleft()
