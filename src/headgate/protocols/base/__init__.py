"""The contract of a protocol: how one wire format becomes an `InferRequest`, and an answer becomes bytes again.

A protocol is one file (or folder) on this shelf. It says which paths are its own (`Route`); for a path that infers, the gateway picks
the revision, hands `Protocol.decode` that revision's `Plan`, queues what comes back, and gives the answer to `Protocol.encode`. All
other paths name a method that answers at once from a `Catalogue`. Everything a request can be wrong about is refused in
``decode``, before the queue.
"""

from __future__ import annotations

from headgate.protocols.base.contract import (
    CONTRACT,
    EVENT_STREAM,
    Address,
    Answer,
    Catalogue,
    DeploymentView,
    InParts,
    Later,
    Protocol,
    Reply,
    Request,
    Route,
    error_reply,
    event,
)
from headgate.protocols.base.exchange import Batch, InferRequest, InferResponse, OutputTensor
from headgate.protocols.base.plan import MOST_PIECES, InputPlan, Plan, Shape
from headgate.protocols.base.statistics import Measured, SizeStatistics, Statistics, VersionState

__all__ = [
    "CONTRACT",
    "EVENT_STREAM",
    "MOST_PIECES",
    "Address",
    "Answer",
    "Batch",
    "Catalogue",
    "DeploymentView",
    "InParts",
    "InferRequest",
    "InferResponse",
    "InputPlan",
    "Later",
    "Measured",
    "OutputTensor",
    "Plan",
    "Protocol",
    "Reply",
    "Request",
    "Route",
    "Shape",
    "SizeStatistics",
    "Statistics",
    "VersionState",
    "error_reply",
    "event",
]
