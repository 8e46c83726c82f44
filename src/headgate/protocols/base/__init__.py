"""The contract of a protocol: how one wire format becomes an `InferRequest`, and an answer becomes bytes again.

A protocol is one file (or folder) on this shelf. It says which paths are its own (`Route`); for a path that infers, the gateway picks
the revision, hands `Protocol.decode` that revision's `Plan`, queues what comes back, and gives the answer to `Protocol.encode`. All
other paths name a method that answers at once from a `Catalogue`. Everything a request can be wrong about is refused in
``decode``, before the queue.
"""

from __future__ import annotations

from headgate.protocols.base.contract import (
    CONTRACT,
    Address,
    Answer,
    Catalogue,
    DeploymentView,
    Protocol,
    Reply,
    Request,
    Route,
    error_reply,
)
from headgate.protocols.base.exchange import Batch, InferRequest, InferResponse, OutputTensor
from headgate.protocols.base.plan import MOST_PIECES, InputPlan, Plan, Shape

__all__ = [
    "CONTRACT",
    "MOST_PIECES",
    "Address",
    "Answer",
    "Batch",
    "Catalogue",
    "DeploymentView",
    "InferRequest",
    "InferResponse",
    "InputPlan",
    "OutputTensor",
    "Plan",
    "Protocol",
    "Reply",
    "Request",
    "Route",
    "Shape",
    "error_reply",
]
