"""Content codings of bodies: gzip and deflate, both ways, bounded."""

from __future__ import annotations

import zlib

from headgate.errors import InvalidRequest, PayloadTooLarge, Unsupported
from headgate.tensors import Buffer

INLINE_BYTES = 256 * 1024
"""Up to here bodies are inflated and deflated on the event loop; above it in a thread."""
IDENTITY = ("", "identity")
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_STEP = 1 << 20


def check_coding(coding: str) -> None:
    """Raise `Unsupported` for a content coding that is not understood."""
    if coding not in _WBITS and coding not in IDENTITY:
        raise Unsupported(f"Content-Encoding {coding[:50]!r} is not understood; use gzip, deflate or none")


def inflate(body: Buffer, coding: str, limit: int) -> bytes:
    """Return ``body`` without its coding.

    Raises `PayloadTooLarge` as soon as more than ``limit`` bytes come out, `InvalidRequest` if the data is broken.
    """
    inflater = zlib.decompressobj(_WBITS[coding])
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            part = inflater.decompress(body, _STEP)
            size += len(part)
            parts.append(part)
            if size > limit:
                raise PayloadTooLarge(f"the body inflates to more than the maximum allowed, {limit} bytes")
            body = inflater.unconsumed_tail
            if inflater.eof or (not part and not body):
                break
    except zlib.error as error:
        raise InvalidRequest(f"the body is not valid {coding}: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest(f"the body is not valid {coding}: it {'goes on after its end' if inflater.eof else 'is cut short'}")
    return b"".join(parts)


def choose(accept: str) -> str:
    """Return ``gzip``, ``deflate`` or an empty string (identity) by an Accept-Encoding header (RFC 9110, section 12.5.3)."""
    best, best_quality = "", 0.0
    for item in accept.split(","):
        name, _, parameter = item.strip().partition(";")
        name = name.strip().lower()
        text = parameter.strip().lower().removeprefix("q=")
        try:
            quality = float(text) if parameter else 1.0
        except ValueError:
            quality = 0.0
        if name in ("gzip", "deflate") and quality > best_quality:
            best, best_quality = name, quality
        elif name == "identity" and quality > best_quality:
            best, best_quality = "", quality
    return best


def deflate(body: bytes, coding: str) -> bytes:
    """Return ``body`` in ``coding``, fast rather than small."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, _WBITS[coding])
    return compressor.compress(body) + compressor.flush()
