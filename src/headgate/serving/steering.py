"""How a request says where it wants to go, or who it comes from: two headers of our own.

``x-headgate-revision: candidate``, ``stable`` or the name of a revision pins it; it never enters the judge. ``x-headgate-key`` names the
user it comes from: the key, not the request, is then drawn, and stays with the candidate once it is there, as long as the weight grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from headgate.errors import InvalidRequest

BUCKETS = 10_000
LONGEST = 200
"""Characters of a header's value."""


class Steering(NamedTuple):
    """What the headers of a request say."""

    revision: str | None
    key: bytes | None


def steering(headers: Mapping[str, str]) -> Steering | None:
    """Return what ``headers`` (lower case) say; None for most. Raises `InvalidRequest` that names the header."""
    revision, key = headers.get("x-headgate-revision"), headers.get("x-headgate-key")
    if revision is None and key is None:
        return None
    for name, value in (("x-headgate-revision", revision), ("x-headgate-key", key)):
        if value is not None and not 0 < len(value) <= LONGEST:
            raise InvalidRequest(f"{name}: expected 1 to {LONGEST} characters, got {len(value)}")
    return Steering(revision, None if key is None else key.encode("utf-8", "surrogatepass"))


def hashed(salt: bytes, key: bytes) -> int:
    """Return 64 bits of ``key``, never 0. Another rollout, with another salt, knows the same user by other bits."""
    return int.from_bytes(blake2b(key, digest_size=8, key=salt[:64]).digest(), "big") or 1


def bucket(number: int) -> int:
    """Return which of the `BUCKETS` a hash falls into."""
    return number % BUCKETS
