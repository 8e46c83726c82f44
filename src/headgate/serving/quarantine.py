"""Inputs that have killed two replicas, and are refused for a while."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from headgate.errors import ReplicaLost
from headgate.protocols.base import InferRequest

SECONDS = 600.0
_KEPT = 256


class Quarantine:
    """Remembers inputs by their digest; the oldest go first when there are too many."""

    def __init__(self) -> None:
        self.since: OrderedDict[bytes, float] = OrderedDict()
        """Digest -> when it killed; read on the hot path, which has nothing to check while this is empty."""

    def add(self, request: InferRequest, now: float) -> None:
        """Refuse this input from now on."""
        self.since[_digest(request)] = now
        while len(self.since) > _KEPT:
            self.since.popitem(last=False)

    def check(self, request: InferRequest, now: float) -> None:
        """Raise `ReplicaLost` if ``request`` holds such an input."""
        left = self.since.get(_digest(request), now - SECONDS) + SECONDS - now
        if left > 0:
            raise ReplicaLost(f"this input has killed two replicas; it is refused for {left:.0f} s more", None)


def _digest(request: InferRequest) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for shape, data in zip(request.shapes, request.data, strict=True):
        digest.update(repr(shape).encode())
        if data is not None:
            digest.update(data)
    return digest.digest()
