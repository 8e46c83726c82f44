"""The contract of a protocol: how one wire format becomes an `InferRequest`, and an answer becomes bytes again.

A protocol is one file on this shelf. It says which paths are its own (`Route`); for a path that infers, the gateway picks the
revision, hands `decode` that revision's `Plan`, queues what comes back, and gives the answer to `encode`. All other paths name a
method that answers at once from a `Catalogue`. Everything a request can be wrong about is refused in `decode`, before the queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol as Interface

import msgspec

from headgate.errors import HeadgateError, InvalidRequest, MethodNotAllowed
from headgate.package.signature import Signature, TensorSpec
from headgate.tensors import DTYPES, Buffer, DType, elements

Shape = Sequence[int]
LARGEST_COUNT = (1 << 63) - 1
_WIDEST = 8
"""Bytes of the widest element."""
MOST_PIECES = 4096
"""Batches that one request may be split into."""


class InputPlan:
    """One input of a signature, with what the hot path needs worked out."""

    __slots__ = ("dtype", "fixed", "index", "item_size", "name", "optional", "shape", "tail", "typecode")

    def __init__(self, index: int, spec: TensorSpec, batched: bool) -> None:
        self.index = index
        self.name = spec.name
        self.dtype: DType = DTYPES[spec.dtype]
        self.typecode = self.dtype.typecode
        self.item_size = self.dtype.size
        self.shape = list(spec.shape)
        self.tail = list(spec.shape[1:]) if batched else list(spec.shape)
        self.fixed = -1 not in self.tail
        self.optional = spec.optional


class Plan:
    """A signature prepared for decoding: lookups by name, and the checks that every protocol shares."""

    __slots__ = (
        "batched",
        "by_name",
        "inputs",
        "kind",
        "max_rows",
        "model",
        "notes",
        "outputs",
        "parameters",
        "required",
        "signature",
        "splittable",
        "uniform",
    )

    def __init__(self, model: str, signature: Signature, *, max_rows: int, splittable: bool) -> None:
        self.model = model
        self.signature = signature
        self.batched = signature.batched
        self.parameters = signature.parameters
        self.inputs = [InputPlan(index, spec, signature.batched) for index, spec in enumerate(signature.inputs)]
        self.by_name = {plan.name: plan for plan in self.inputs}
        self.outputs = {spec.name: index for index, spec in enumerate(signature.outputs)}
        self.required = sum(not plan.optional for plan in self.inputs)
        self.uniform = all(plan.fixed and not plan.optional for plan in self.inputs) and not signature.parameters
        """Any two requests fit into one batch."""
        kinds = {"int" if plan.dtype.kind == "uint" else plan.dtype.kind for plan in self.inputs}
        self.kind = kinds.pop() if len(kinds) == 1 else "mixed"
        """Of all inputs, where they share one: ``float``, ``int``, ``bool``, ``bytes``; lets a decoder check types as it parses."""
        self.max_rows = max_rows
        self.splittable = splittable
        self.notes: dict[Any, Any] = {}
        """What a protocol has worked out about requests for this plan; goes with it."""

    def input(self, name: str) -> InputPlan:
        """Return the input called ``name``. Raises `InvalidRequest` if there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            raise InvalidRequest(
                f"unexpected inference input '{name[:200]}' for model '{self.model}'; it takes {sorted(self.by_name)}"
            ) from None

    def check(self, plan: InputPlan, datatype: str, shape: Shape) -> None:
        """Refuse a dtype or shape that input ``plan`` does not take. Raises `InvalidRequest`."""
        if datatype != plan.dtype.name:
            raise InvalidRequest(self._wrong_dtype(plan, datatype))
        tail = shape[1:] if self.batched else shape
        if tail != plan.tail:
            self._check_tail(plan, shape, tail)
        if self.batched and (not shape or shape[0] < 0):
            raise InvalidRequest(self._wrong_shape(plan, shape))

    def _check_tail(self, plan: InputPlan, shape: Shape, tail: Shape) -> None:
        if any(size < 0 for size in shape):
            raise InvalidRequest(
                f"invalid shape for input '{plan.name}': shape {list(shape)} contains one or more invalid dimensions; "
                "sizes are 0 or more"
            )
        if len(tail) != len(plan.tail) or any(want not in (-1, size) for want, size in zip(plan.tail, tail, strict=True)):
            raise InvalidRequest(self._wrong_shape(plan, shape))
        # Sizes of 0 do not make the others smaller: NumPy would refuse such a shape, and a struct such a size.
        if elements(size or 1 for size in shape) > LARGEST_COUNT // _WIDEST:
            raise InvalidRequest(
                f"shape of input '{plan.name}' causes total element count to exceed maximum size of {LARGEST_COUNT}"
            )

    def _wrong_dtype(self, plan: InputPlan, datatype: str) -> str:
        if datatype not in DTYPES:
            return f"invalid datatype for input '{plan.name}': '{datatype[:50]}'; model '{self.model}' expects '{plan.dtype.name}'"
        return f"inference input '{plan.name}' data-type is '{datatype}', but model '{self.model}' expects '{plan.dtype.name}'"

    def _wrong_shape(self, plan: InputPlan, shape: Shape) -> str:
        note = " NOTE: the first dimension is the batch" if self.batched else ""
        expected = ",".join(map(str, plan.shape))
        return (
            f"unexpected shape for input '{plan.name}' for model '{self.model}'. "
            f"Expected [{expected}], got [{','.join(map(str, shape))}].{note}"
        )

    def finish(self, request: InferRequest) -> InferRequest:
        """Check what only shows once all inputs are there, and work out ``rows`` and ``key``. Raises `InvalidRequest`."""
        shapes = request.shapes
        if self.uniform:
            if None in shapes:
                raise InvalidRequest(self._missing(request))
        elif any(shape is None and not plan.optional for shape, plan in zip(shapes, self.inputs, strict=True)):
            raise InvalidRequest(self._missing(request))
        if not self.batched:
            request.rows = 1
            return request
        rows = next((shape[0] for shape in shapes if shape is not None), None)
        if rows is None:
            raise InvalidRequest(f"expected at least 1 input for model '{self.model}', got none; it takes {sorted(self.by_name)}")
        for plan, shape in zip(self.inputs, shapes, strict=True):
            if shape is not None and shape[0] != rows:
                raise InvalidRequest(
                    f"input '{plan.name}' batch size does not match other inputs for '{self.model}': "
                    f"got {shape[0]} rows, others have {rows}"
                )
        if rows > self.max_rows:
            most = self.max_rows * MOST_PIECES if self.splittable else self.max_rows
            if rows > most:
                raise InvalidRequest(f"inference request batch-size must be <= {most} for '{self.model}', got {rows}")
        request.rows = rows
        if not self.uniform:
            request.key = self._key(request)
        return request

    def _key(self, request: InferRequest) -> object:
        tails = tuple(None if shape is None else tuple(shape[1:]) for shape in request.shapes)
        return (tails, repr(request.parameters)) if self.parameters else tails

    def _missing(self, request: InferRequest) -> str:
        got = [plan.name for plan, shape in zip(self.inputs, request.shapes, strict=True) if shape is not None]
        missing = [plan.name for plan in self.inputs if not plan.optional and plan.name not in got]
        return (
            f"expected {self.required} inputs but got {len(got)} inputs for model '{self.model}'. Got input(s) {got}, "
            f"but missing required input(s) {missing}. Please provide all required input(s)."
        )


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


class OutputTensor(NamedTuple):
    """One output of an answer; ``data`` in the binary form of `headgate.tensors`."""

    name: str
    dtype: DType
    shape: Shape
    data: Buffer


class InferResponse(NamedTuple):
    """The answer to one request."""

    model: str
    version: str
    outputs: Sequence[OutputTensor]
    """In the order of the signature."""
    batch: Batch


class Batch(NamedTuple):
    """The batch an answer comes from."""

    compute: float
    """Seconds the model took for all of it."""
    rows: int
    finished: float
    """Monotonic seconds at which it was back at the gateway."""


class Reply(NamedTuple):
    """What goes back over HTTP."""

    body: Buffer
    content_type: bytes = b"application/json"
    status: int = 200
    headers: bytes = b""
    """Further header lines, each ending in CRLF."""


class Route(NamedTuple):
    """One path of a protocol."""

    method: str
    path: str
    """With ``{model}``, ``{version}``, ...: one segment each, percent-decoded."""
    operation: str
    """``infer``, or the name of the method of the protocol that answers."""
    scope: str = "infer"
    """Scope a key needs; ``open``: none, even where keys are required."""


class Request(Interface):
    """What a protocol sees of an HTTP request."""

    @property
    def method(self) -> str:
        """``POST``."""
        ...

    @property
    def path(self) -> str:
        """As sent, not decoded, without the query."""
        ...

    @property
    def query(self) -> str:
        """What follows the question mark."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        ...

    @property
    def params(self) -> Mapping[str, str]:
        """The path's variables, percent-decoded."""
        ...


class DeploymentView(Interface):
    """What a protocol may know of one deployment."""

    @property
    def name(self) -> str:
        """What clients call it."""
        ...

    @property
    def ready(self) -> bool:
        """Whether any request would be computed now."""
        ...

    def versions(self) -> list[int]:
        """Registry versions that can be asked for by number, ascending."""
        ...

    def plan(self, version: str | None) -> Plan:
        """The plan of a version, or of what an unpinned request would get. Raises `NotFound` or `NotReady`."""
        ...

    def version_ready(self, version: str | None) -> bool:
        """Whether a request for it would be computed now. Raises `NotFound`."""
        ...

    def example(self) -> Any:
        """The package's input example as parsed JSON, or None."""
        ...

    def platform(self, version: str | None) -> str:
        """``onnx``, ``sklearn``, ... Raises `NotFound`."""
        ...


class Catalogue(Interface):
    """What a protocol may know of the server."""

    @property
    def ready(self) -> bool:
        """Whether everything that should serve would compute a request now."""
        ...

    def deployment(self, name: str) -> DeploymentView:
        """Raises `NotFound`."""
        ...

    def deployments(self) -> Iterable[DeploymentView]:
        """All of them, by name."""
        ...

    def metrics(self) -> str:
        """The Prometheus exposition."""
        ...


class Protocol(ABC):
    """One wire format. One instance serves all connections; it keeps no state of a request."""

    name: ClassVar[str]
    """As in metrics: ``oip_http``."""
    routes: ClassVar[Sequence[Route]]

    @abstractmethod
    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read a request to infer. Raises `InvalidRequest` naming the field, what was expected and what came."""

    @abstractmethod
    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer. Raises `InvalidRequest` if the client asked for a form it cannot have."""

    def encode_error(self, error: HeadgateError) -> Reply:
        """Write an error."""
        return error_reply(error)


Answer = Callable[[Request, Catalogue], Reply]
"""Signature of the methods that `Route.operation` names, ``infer`` excepted."""


def error_reply(error: HeadgateError) -> Reply:
    """``{"error": text, "code": word}`` with the error's status, as the Open Inference Protocol wants it."""
    text = str(error)
    if len(text) > 1000:
        text = text[:1000] + " ..."
    headers = b"" if error.retry_after is None else b"retry-after: %d\r\n" % max(1, round(error.retry_after))
    if isinstance(error, MethodNotAllowed):
        headers += b"allow: %b\r\n" % error.allow.encode()
    return Reply(msgspec.json.encode({"error": text, "code": error.code}), status=error.status, headers=headers)


CONTRACT = Protocol
