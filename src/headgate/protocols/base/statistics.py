"""What a gateway has counted of one version of a deployment: values that a protocol may tell."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Measured(msgspec.Struct, frozen=True):
    """How often something happened, and how long all of it took."""

    count: int = 0
    seconds: float = 0.0


class SizeStatistics(msgspec.Struct, frozen=True):
    """The batches of one size."""

    rows: int
    """Of each of them."""
    computed: Measured


class Statistics(msgspec.Struct, frozen=True):
    """Counts of one version since this gateway knows it; several revisions of it are added up."""

    version: int
    answered: Measured
    """Requests answered well, from the last byte of the request to the answer."""
    failed: Measured
    """Requests refused or failed after their deployment had been found."""
    queued: Measured
    """Requests (or pieces of one) given to a replica, and how long they waited before."""
    computed: Measured
    """Requests (or pieces) in batches that came back; each counts the time of its whole batch."""
    batches: int
    rows: int
    """In those batches."""
    sizes: tuple[SizeStatistics, ...]
    """By rising size."""
    last: float | None
    """When the last batch came back, in seconds since the epoch; None if none has."""
    by_status: Mapping[int, int]
    """Requests by the HTTP status of their answer, or what it would have been."""
    abandoned: int
    """Requests whose client went away."""
    pending: int
    """Requests that wait for a replica now."""


class VersionState(msgspec.Struct, frozen=True):
    """How one version of a deployment is."""

    version: int
    ready: bool
    reason: str
    """Why it is not ready; empty if it is."""
