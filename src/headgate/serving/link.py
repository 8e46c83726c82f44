"""Frames between a gateway and whoever connects to its link socket: replicas, control, an adopting supervisor.

    frame    <u32 length of the rest> <u8 kind> <u8 flags> <u16 0> <u32 batch number> payload
    tensors  <u16 tensors> <u16 signature> <u32 rows> <u32 bytes of extra> <u32 0> <u64 nanoseconds>     the payload of BATCH and RESULT
             per tensor: <u8 index> <u8 dtype> <u8 dimensions> <u8 where> <u32 0> <u64 bytes> <u64 offset> <i64 dimension>...
             extra, then the inline data, each tensor at a multiple of 16 from the start of the payload
    extra    JSON: of a BATCH the parameters; of a RESULT {failed: {row: {code, message}}, invalid: [row]}; empty where there is nothing

A RESULT answers its BATCH, unless it has the flag MORE: then it is one part of the answer, and the last RESULT, without the flag, has no
tensors. The replica sends parts as long as less than `WINDOW` of them is not granted yet; GRANT (``<u64 weight>``) says what the
gateway's client has room for again, and CANCEL that nobody waits for further parts: the replica ends with the last RESULT. Both carry the
number of the batch.

A BATCH names its signature by its number among those of the model, and a tensor is named by its index in the signature. It lies inline,
or, from 64 KiB on, at ``offset`` of an arena: a memfd that the gateway handed over with WELCOME, one for requests and one for responses.
One batch is under way on a link at a time, so an arena needs no allocator: every batch starts at 0. This file is on the replica's side
too: standard library only; never pickle.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PROTOCOL = 1
HELLO, WELCOME, READY, FAILED, BATCH, RESULT, ERROR, ROUTES, REPORT, LISTENERS, BYE, GRANT, CANCEL, WISH, ANSWER, PULL, OUTCOMES = (
    range(1, 18)
)

MORE = 1
"""Flag of a RESULT: a part, which others follow."""

FRAME = struct.Struct("<IBBHI")
_GRANT = struct.Struct("<Q")
_TENSORS = struct.Struct("<HHIIIQ")
_TENSOR = [struct.Struct(f"<BBBBIQQ{n}q") for n in range(33)]
INLINE, ARENA = 0, 1
ARENA_FROM = 64 * 1024
"""Bytes from which a tensor goes through shared memory (80 us instead of 1.4 ms for 602 KB)."""
CHECK = 1
"""Flag of a BATCH: say which rows of the answer hold NaN or infinity."""
WINDOW = ARENA_FROM
"""Weight of the parts that may be on their way to a client. A part in the arena weighs no less, so there is one of them at a time."""
LARGEST = 1 << 30
"""Bytes of the largest frame; more is a broken peer."""
_ALIGN = 64
"""Tensors in an arena start at a cache line."""

Buffer = bytes | bytearray | memoryview


class Packed(NamedTuple):
    """One tensor on its way: ``parts`` are its bytes in order (rows of several requests)."""

    tensor: int
    """Its place in the signature."""
    dtype: int
    """`DType.code`."""
    shape: Sequence[int]
    parts: Sequence[Buffer]
    size: int
    """Bytes of all parts."""


class Unpacked(NamedTuple):
    """One tensor received; ``data`` is only valid until the next batch on this link."""

    tensor: int
    dtype: int
    shape: tuple[int, ...]
    data: memoryview


class Message(NamedTuple):
    """The payload of BATCH or RESULT."""

    rows: int
    nanoseconds: int
    """RESULT: time the model took."""
    extra: bytes
    """JSON: the parameters of a BATCH; the rows of a RESULT that failed."""
    tensors: list[Unpacked]
    signature: int = 0
    """BATCH: the number of the signature by which the model is to be run."""


class Arena:
    """A growing piece of shared memory that two processes have mapped. Only the writer grows it; it never shrinks (sealed)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None
        self._size = 0

    @classmethod
    def create(cls) -> Arena:
        """Make an empty one. The seal keeps the other side from cutting it under our feet, which would be a SIGBUS."""
        fd = os.memfd_create("headgate-link", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(fd)

    def write(self, offset: int, parts: Iterable[Buffer], size: int) -> None:
        """Copy ``parts``, ``size`` bytes in all, to ``offset``, growing the arena first where needed."""
        end = offset + size
        if end > self._size:
            self._grow(end)
        assert self._map is not None
        for part in parts:
            stop = offset + len(part)
            self._map[offset:stop] = part
            offset = stop

    def view(self, offset: int, size: int) -> memoryview:
        """Return the bytes at ``offset``. Raises `ValueError` if the arena is shorter: the peer lied."""
        if offset + size > self._size:
            self._remap(os.fstat(self.fd).st_size)
            if offset + size > self._size:
                raise ValueError(f"the arena has {self._size} bytes, the frame names {offset} + {size}")
        return memoryview(self._map)[offset : offset + size].toreadonly()  # type: ignore[arg-type]

    def close(self) -> None:
        """Let go. The mapping itself goes with its last view."""
        os.close(self.fd)
        self._map = None

    def _grow(self, size: int) -> None:
        os.ftruncate(self.fd, 1 << (size - 1).bit_length())
        self._remap(1 << (size - 1).bit_length())

    def _remap(self, size: int) -> None:
        if size:
            self._map = mmap.mmap(self.fd, size)
            self._size = size


def weight(payload: int, sizes: Iterable[int]) -> int:
    """Return what a part counts for: the bytes of its frame's payload, and of its tensors (``sizes``) in the arena."""
    return payload + sum(size for size in sizes if size >= ARENA_FROM)


def grant(batch: int, weighs: int) -> bytes:
    """Return a GRANT frame."""
    return frame(GRANT, _GRANT.pack(weighs), batch)


def granted(payload: Buffer) -> int:
    """Return the weight that a GRANT frame grants. Raises `struct.error` if it is none."""
    weighs: int = _GRANT.unpack(payload)[0]
    return weighs


def frame(kind: int, payload: Buffer = b"", batch: int = 0) -> bytes:
    """Return one frame."""
    return FRAME.pack(8 + len(payload), kind, 0, 0, batch) + payload


def pack(
    kind: int,
    batch: int,
    tensors: Sequence[Packed],
    arena: Arena,
    *,
    rows: int,
    nanoseconds: int = 0,
    extra: bytes = b"",
    flags: int = 0,
    signature: int = 0,
) -> bytes:
    """Return a BATCH or RESULT frame; large tensors are copied into ``arena``."""
    headers: list[bytes] = []
    inline: list[Buffer] = []
    head = _TENSORS.size + sum(_TENSOR[len(tensor.shape)].size for tensor in tensors) + len(extra)
    at, offset = -(-head // 16) * 16, 0
    pad = at - head
    for index, dtype, shape, parts, size in tensors:
        if size >= ARENA_FROM:
            arena.write(offset, parts, size)
            headers.append(_TENSOR[len(shape)].pack(index, dtype, len(shape), ARENA, 0, size, offset, *shape))
            offset = -(-(offset + size) // _ALIGN) * _ALIGN
            continue
        headers.append(_TENSOR[len(shape)].pack(index, dtype, len(shape), INLINE, 0, size, at, *shape))
        inline.append(bytes(pad))
        inline.extend(parts)
        pad = -size % 16
        at += size + pad
    body = b"".join((_TENSORS.pack(len(tensors), signature, rows, len(extra), 0, nanoseconds), *headers, extra, *inline))
    return FRAME.pack(8 + len(body), kind, flags, 0, batch) + body


def unpack(payload: memoryview, arena: Arena) -> Message:
    """Read the payload of a BATCH or RESULT frame. Raises `ValueError` or `struct.error` if it is not one."""
    count, signature, rows, extra_size, _, nanoseconds = _TENSORS.unpack_from(payload)
    at = _TENSORS.size
    tensors: list[Unpacked] = []
    for _ in range(count):
        index, dtype, dimensions, where = payload[at], payload[at + 1], payload[at + 2], payload[at + 3]
        fields = _TENSOR[dimensions].unpack_from(payload, at)
        size, offset = fields[5], fields[6]
        at += _TENSOR[dimensions].size
        data = payload[offset : offset + size] if where == INLINE else arena.view(offset, size)
        if len(data) != size:
            raise ValueError(f"tensor {index} claims {size} bytes, {len(data)} came")
        tensors.append(Unpacked(index, dtype, fields[7:], data))
    return Message(rows, nanoseconds, bytes(payload[at : at + extra_size]), tensors, signature)
