"""What passes between a protocol and the queue: a request to infer, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.tensors import Buffer, DType

Shape = Sequence[int]


class InferRequest(msgspec.Struct, eq=False):
    """One request on its way through the gateway, from the decoder to the answer.

    ``shapes`` and ``data`` follow the order of the signature's inputs; None is an optional input left out. The fields below
    ``wire`` belong to the queue. Two requests are equal only where they are the same one.
    """

    shapes: list[Any]
    data: list[Any]
    id: str | None = None
    parameters: Mapping[str, Any] | None = None
    outputs: Sequence[Any] | None = None
    """What the protocol noted about the outputs asked for; None: all of them, as they come."""
    timeout: float | None = None
    """Seconds the client gives it, or None."""
    priority: int = 0
    """1 is the most urgent, 0 the default; see `headgate.serving.queue`."""
    wire: Any = None
    """The protocol's own notes for `Protocol.encode`."""
    rows: int = 1
    key: object = None
    sink: Any = None
    arrived: float = 0.0
    deadline: float = 0.0
    started: float | None = None
    """When a replica got it; None while it waits."""
    done: bool = False
    deaths: int = 0
    piece: bool = False
    pieces: Sequence[InferRequest] = ()
    decision: Any = None
    """Where its outcome is written, while a rollout is under way."""

    @staticmethod
    def of(inputs: int) -> InferRequest:
        """Return a request with room for so many inputs."""
        return InferRequest([None] * inputs, [None] * inputs)


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
    replica: int = 0
    """Number of the replica; 0: there was none."""
