"""The wire format of protocol buffers, as far as the hot path writes and reads it by hand: fields with a length.

Source: protobuf.dev/programming-guides/encoding. Everything else is done by the message classes of `headgate.protocols.base.grpc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from headgate.tensors import Buffer

LENGTH_DELIMITED = 2
_VARINT, _FIXED64, _FIXED32 = 0, 1, 5


@lru_cache(4096)
def varint(value: int) -> bytes:
    """Return ``value`` (0 or more) in base 128, least significant group first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def tag(number: int) -> bytes:
    """Return what stands before the length of field ``number``."""
    return varint(number << 3 | LENGTH_DELIMITED)


def delimited(number: int, data: Buffer) -> bytes:
    """Return ``data`` (text as UTF-8, bytes, or a message) as field ``number``."""
    return b"".join((tag(number), varint(len(data)), data))


class Field(NamedTuple):
    """One field as it stands in a message."""

    number: int
    delimited: bool
    """It has a length: text, bytes, a message or packed numbers."""
    at: int
    """Where its tag begins."""
    start: int
    """Where its content begins, behind tag and length."""
    stop: int


def fields(data: Buffer, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in ``data[start:stop]``, in the order they stand there.

    Raises `ValueError` where the bytes end in the middle of one, or for what nobody writes any more (groups, numbers in too many bytes).
    """
    at, end = start, len(data) if stop is None else stop
    while at < end:
        tag, content = _number(data, at, end, 5)
        kind = tag & 7
        if kind == LENGTH_DELIMITED:
            size, content = _number(data, content, end, 5)
            after = content + size
        elif kind == _VARINT:
            after = _number(data, content, end, 10)[1]
        elif kind in (_FIXED64, _FIXED32):
            after = content + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if after > end:
            raise ValueError(f"the field at byte {at} runs past the end")
        yield Field(tag >> 3, kind == LENGTH_DELIMITED, at, content, after)
        at = after


def _number(data: Buffer, at: int, end: int, longest: int) -> tuple[int, int]:
    """Read a varint of at most ``longest`` bytes; return it and where it ends."""
    value = shift = 0
    for place in range(at, min(end, at + longest)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise ValueError(f"the number at byte {at} does not end")
