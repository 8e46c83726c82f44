"""The chunked transfer coding (RFC 9112, section 7.1), read strictly: a bare LF, a sign or a space in a size is refused, so that no
proxy in front can see other boundaries than we do.
"""

from __future__ import annotations

from headgate.errors import InvalidRequest, PayloadTooLarge

_LONGEST_LINE = 1024
"""A size with its extensions, or one trailer line."""
_MOST_TRAILERS = 64
"""Trailer lines, which are skipped."""
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ChunkedBody:
    """Feed it bytes until `feed` returns True; then ``parts`` is the body and ``rest`` what follows it."""

    def __init__(self, limit: int, chunks: int) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.rest = b""
        self._limit = limit
        self._chunks = chunks
        self._left = 0
        """Bytes of the present chunk still to come, its CRLF included."""
        self._trailers = -1
        """Trailer lines seen; -1 before the last chunk."""

    def feed(self, data: bytes) -> bool:
        """Take more bytes. Raises `InvalidRequest` if the coding is broken and `PayloadTooLarge` over the limits."""
        data = self.rest + data
        at = 0
        while True:
            if self._left:
                at = self._take(data, at)
                if self._left:
                    break
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > _LONGEST_LINE:
                    raise InvalidRequest("chunked body: a chunk's size line is too long")
                break
            line, at = data[at:end], end + 2
            if len(line) > _LONGEST_LINE or b"\n" in line or b"\r" in line:
                raise InvalidRequest(f"chunked body: a line is too long or holds a bare CR or LF: {line[:20]!r}")
            if self._trailers < 0:
                self._start(line)
            elif line:
                self._trailers += 1
                if self._trailers > _MOST_TRAILERS:
                    raise InvalidRequest(f"chunked body: more than {_MOST_TRAILERS} trailers")
            else:
                self.rest = data[at:]
                return True
        self.rest = data[at:]
        return False

    def _start(self, line: bytes) -> None:
        digits = line.partition(b";")[0]
        if not digits or len(digits) > 16 or not _HEX.issuperset(digits):
            raise InvalidRequest(f"chunked body: expected a chunk size in hex, got {line[:20]!r}")
        size = int(digits, 16)
        if not size:
            self._trailers = 0
            return
        self._chunks -= 1
        self.size += size
        if self.size > self._limit:
            raise PayloadTooLarge(f"the body exceeds the maximum allowed, {self._limit} bytes")
        if self._chunks < 0:
            raise PayloadTooLarge("the body has too many chunks; send larger ones")
        self._left = size + 2

    def _take(self, data: bytes, at: int) -> int:
        part = data[at : at + self._left]
        content = max(0, min(len(part), self._left - 2))
        if content:
            self.parts.append(part[:content])
        ending = part[content:]
        if not b"\r\n"[2 - min(2, self._left - content) :].startswith(ending):
            raise InvalidRequest("chunked body: a chunk does not end where its size says")
        self._left -= len(part)
        return at + len(part)
