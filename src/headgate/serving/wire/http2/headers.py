"""Header blocks: HPACK (RFC 7541) in, decoded once for each distinct block; constant blocks out; and what a request's headers must be.

Clients send the same block again and again on a connection: after the first requests it is a handful of indexes into the dynamic table.
So a decoded block is kept by its bytes, and its `RequestHeaders` is the *same object* for every request that had these bytes: whoever
is above may keep in ``note`` what follows from it. Bytes mean the same only while the dynamic table does: a block that changes the
table is never kept, and makes everything that is kept forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from headgate.serving.wire.http2.frames import ConnectionFault, ErrorCode, StreamFault
from headgate.serving.wire.http2.settings import BLOCK, HARD, Http2Limits

Fields = tuple[tuple[bytes, bytes], ...]

_KEPT_BLOCKS = 32
_KEPT_BYTES = 512
"""Only short blocks are kept, and few of them: a client cannot fill memory with long ones."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A field's name: a token (RFC 9110, section 5.1) in lower case (RFC 9113, section 8.2)."""
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
"""A field's value: no control character, no space at either end (RFC 9113, section 8.2.1)."""
_PATH = re.compile(rb"/[!\"$-~]*")
_SCHEME = re.compile(rb"[a-z][a-z0-9+.\-]*")
_AUTHORITY = re.compile(rb"[!-?A-~]*")
"""No space, and no user before an @ (RFC 9113, section 8.3.1)."""
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_A_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_MANY_RESIZES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")
"""A block may begin with two changes of the table's size (RFC 7541, section 4.2); thousands would only cost time."""


class RequestHeaders:
    """The headers of one request, well-formed. Text is ASCII, values of fields are Latin-1."""

    __slots__ = ("authority", "fields", "length", "method", "note", "path", "scheme")

    def __init__(self, pseudo: dict[bytes, bytes], fields: tuple[tuple[str, str], ...], authority: bytes, length: int) -> None:
        self.method = pseudo[b":method"].decode("ascii")
        self.scheme = pseudo[b":scheme"].decode("ascii")
        self.authority = authority.decode("ascii")
        self.path = pseudo[b":path"].decode("ascii")
        """With its query, as it came; ``*`` only with OPTIONS."""
        self.fields = fields
        """(name in lower case, value) in order; a name may occur again."""
        self.length = length
        """The body's announced length in bytes, held to by the connection; -1 without one."""
        self.note: Any = None
        """For whoever is above: what follows from these headers, worked out once."""


class _Table(HeaderTable):  # type: ignore[misc, unused-ignore]
    """A dynamic table that tells when an entry came in."""

    def __init__(self) -> None:
        super().__init__()
        self.additions = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Add an entry, and count it."""
        self.additions += 1
        super().add(name, value)


class HeaderDecoder:
    """The decoding side of one connection. ``known`` holds the requests' blocks that mean now what they meant when they came."""

    __slots__ = ("_decoder", "_limits", "_table", "known")

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._table = _Table()
        self._decoder = Decoder(HARD * limits.header_bytes)
        self._decoder.header_table = self._table
        self.known: dict[bytes, RequestHeaders] = {}

    def request(self, block: bytes) -> RequestHeaders:
        """Decode the block of a request.

        Raises `StreamFault` if the request is malformed or its headers are too large: the table is in order, others may go on. Raises
        `ConnectionFault` if the table cannot be.
        """
        headers = self.known.get(block)
        if headers is None:
            fields, unchanged = self._decode(block)
            headers = read_request(self._bounded(fields))
            if unchanged and len(block) <= _KEPT_BYTES:
                if len(self.known) >= _KEPT_BLOCKS:
                    self.known.clear()
                self.known[block] = headers
        return headers

    def trailers(self, block: bytes) -> None:
        """Decode the block of a request's trailers and check it (RFC 9113, section 8.1); what it says is of no use to anybody here."""
        for name, value in self._bounded(self._decode(block)[0]):
            _check_field(name, value)

    def discard(self, block: bytes) -> bool:
        """Decode a block for the sake of the table only: its stream is closed (RFC 9113, section 5.1).

        Return whether it begins a request. Trailers may have been on their way; a request may not (section 5.1.1).
        """
        return any(name.startswith(b":") for name, _ in self._decode(block)[0])

    def _decode(self, block: bytes) -> tuple[Fields, bool]:
        """Return the fields, and whether the block left the dynamic table as it was."""
        resizes = bool(block) and block[0] & 0xE0 == 0x20
        if resizes and _MANY_RESIZES.match(block):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block changes the table's size more than twice")
        before = self._table.additions
        try:
            fields = tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, f"headers exceed {HARD} times the maximum allowed, {self._limits.header_bytes} bytes"
            ) from None
        except HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be decoded") from None
        unchanged = before == self._table.additions and not resizes
        if not unchanged:
            self.known.clear()
        return fields, unchanged

    def _bounded(self, fields: Fields) -> Fields:
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        if size > self._limits.header_bytes or len(fields) > self._limits.headers:
            raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM, f"headers of {size} bytes in {len(fields)} fields")
        return fields


class Fragments:
    """A header block that comes in parts: HEADERS, then CONTINUATION (RFC 9113, section 6.10)."""

    __slots__ = ("_parts", "_size", "flags", "since", "stream_id")

    def __init__(self, stream_id: int, flags: int, first: bytes, since: float) -> None:
        self.stream_id = stream_id
        self.flags = flags
        """Those of the HEADERS frame."""
        self.since = since
        self._parts = [first]
        self._size = len(first)

    def add(self, part: bytes, limits: Http2Limits) -> None:
        """Take the next part, up to the limits of their number (CVE-2024-27316) and bytes."""
        self._parts.append(part)
        self._size += len(part)
        if len(self._parts) > limits.continuations + 1 or self._size > BLOCK * limits.header_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"a header block of {self._size} bytes in {len(self._parts)} frames")

    def whole(self) -> bytes:
        """Return the block."""
        return b"".join(self._parts)


def read_request(fields: Fields) -> RequestHeaders:
    """Hold the fields of a request to RFC 9113, sections 8.2 and 8.3. Raises `StreamFault` where they are malformed."""
    pseudo: dict[bytes, bytes] = {}
    regular: list[tuple[str, str]] = []
    hosts: list[bytes] = []
    length = -1
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO:
                raise _malformed(name, "unknown, repeated, or after a regular field")
            pseudo[name] = value
            continue
        _check_field(name, value)
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            length = _read_length(value, length)
        regular.append((name.decode("ascii"), value.decode("latin-1")))
    _check_pseudo(pseudo)
    return RequestHeaders(pseudo, tuple(regular), _read_authority(pseudo, hosts), length)


def _malformed(name: bytes, why: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, f"malformed request: {name[:50].decode('ascii', 'replace')}: {why}")


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed(name, "expected a token in lower case")
    if not _VALUE.fullmatch(value):
        raise _malformed(name, "its value holds a control character, or begins or ends with a space")
    if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise _malformed(name, "it belongs to a connection of HTTP/1.1")


def _check_pseudo(pseudo: dict[bytes, bytes]) -> None:
    method = pseudo.get(b":method", b"")
    if method == b"CONNECT":
        raise _malformed(b":method", "CONNECT, but this server is no proxy")
    if not _NAME.fullmatch(method.lower()):
        raise _malformed(b":method", "expected a token")
    if not _SCHEME.fullmatch(pseudo.get(b":scheme", b"")):
        raise _malformed(b":scheme", "expected a scheme")
    path = pseudo.get(b":path", b"")
    if not _PATH.fullmatch(path) and not (path == b"*" and method == b"OPTIONS"):
        raise _malformed(b":path", "expected a path that begins with / and is ASCII")
    if not _AUTHORITY.fullmatch(pseudo.get(b":authority", b"")):
        raise _malformed(b":authority", "expected a host and a port")


def _read_authority(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> bytes:
    authority = pseudo.get(b":authority")
    if len(hosts) > 1 or (hosts and not _AUTHORITY.fullmatch(hosts[0])):
        raise _malformed(b"host", "expected one host and port")
    if hosts and authority and hosts[0].lower() != authority.lower():
        raise _malformed(b"host", "it differs from :authority")
    return authority or (hosts[0] if hosts else b"")


def _read_length(value: bytes, before: int) -> int:
    if not value.isdigit() or len(value) > 18 or before not in (-1, int(value)):
        raise _malformed(b"content-length", "expected one number of bytes")
    return int(value)


_STATIC: dict[tuple[bytes, bytes], int] = {}
_STATIC_NAMES: dict[bytes, int] = {}
for _index, (_name, _value) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC[_name, _value] = _index
    _STATIC_NAMES.setdefault(_name, _index)


def encode_block(fields: Iterable[tuple[bytes, bytes]], *, secret: bool = False) -> bytes:
    """Return the block of ``fields``, without the dynamic table: a constant is a constant on every connection, at any time.

    Blocks may be put together by joining them. ``secret`` fields may not be put in a table by anybody on the way either (RFC 7541,
    section 7.1.3).
    """
    return b"".join([_encode_field(name, value, 0x10 if secret else 0) for name, value in fields])


def _encode_field(name: bytes, value: bytes, pattern: int) -> bytes:
    whole = _STATIC.get((name, value))
    if whole is not None and not pattern:
        return bytes([0x80 | whole])
    known = _STATIC_NAMES.get(name)
    if known is not None:
        return _integer(known, 4, pattern) + _integer(len(value), 7, 0) + value
    return bytes([pattern]) + _integer(len(name), 7, 0) + name + _integer(len(value), 7, 0) + value


def _integer(value: int, bits: int, pattern: int) -> bytes:
    """Return ``value`` with a prefix of ``bits`` bits below ``pattern`` (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([pattern | value])
    out, value = [pattern | most], value - most
    while value >= 128:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*out, value])
