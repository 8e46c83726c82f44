"""What passes between a protocol and the queue: a request to infer, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.tensors import Buffer, DType

Shape = Sequence[int]


class InferRequest:
    """One request on its way through the gateway, from the decoder to the answer.

    ``shapes`` and ``data`` follow the order of the signature's inputs; None is an optional input left out. The fields below
    ``wire`` belong to the queue.
    """

    __slots__ = (
        "arrived", "data", "deadline", "deaths", "done", "id", "key", "outputs", "parameters", "piece", "pieces", "priority", "rows",
        "shapes", "sink", "started", "timeout", "wire",
    )  # fmt: skip

    def __init__(self, inputs: int) -> None:
        self.shapes: list[Any] = [None] * inputs
        self.data: list[Any] = [None] * inputs
        self.id: str | None = None
        self.parameters: Mapping[str, Any] | None = None
        self.outputs: Sequence[Any] | None = None
        """What the protocol noted about the outputs asked for; None: all of them, as they come."""
        self.timeout: float | None = None
        """Seconds the client gives it, or None."""
        self.priority = 0
        """1 is the most urgent, 0 the default; see `headgate.serving.queue`."""
        self.wire: Any = None
        """The protocol's own notes for `Protocol.encode`."""
        self.rows = 1
        self.key: object = None
        self.sink: Any = None
        self.arrived = 0.0
        self.deadline = 0.0
        self.started: float | None = None
        """When a replica got it; None while it waits."""
        self.done = False
        self.deaths = 0
        self.piece = False
        self.pieces: list[InferRequest] = []


class OutputTensor(msgspec.Struct, gc=False):
    """One output of an answer; ``data`` in the binary form of `headgate.tensors`."""

    name: str
    dtype: DType
    shape: Shape
    data: Buffer


class InferResponse(msgspec.Struct, gc=False):
    """The answer to one request."""

    model: str
    version: str
    outputs: Sequence[OutputTensor]
    """In the order of the signature."""
    batch: Batch


class Batch(msgspec.Struct, gc=False):
    """The batch an answer comes from."""

    compute: float
    """Seconds the model took for all of it."""
    rows: int
    finished: float
    """Monotonic seconds at which it was back at the gateway."""
