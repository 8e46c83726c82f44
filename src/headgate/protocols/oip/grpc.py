"""Open Inference Protocol V2 over gRPC, with Triton's ``ModelStreamInfer``.

Source: the specification kserve/open-inference-protocol (inference_grpc.md); error texts follow Triton's, because clients match on
them. What a client sends again and again is known by its bytes (`headgate.protocols.base.skeletons`), and answers are put together by
hand: in both cases a message class would come to the same, and take several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from headgate import __version__
from headgate.errors import HeadgateError, InvalidRequest, NotReady, UnknownModel, Unsupported
from headgate.protocols.base import Address, Catalogue, InferRequest, InferResponse, Plan, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol, Messages
from headgate.protocols.base.skeletons import LONGEST, Skeletons
from headgate.protocols.base.wireformat import delimited
from headgate.protocols.oip import contents
from headgate.protocols.oip.answers import FINAL, Answers
from headgate.protocols.oip.body import check_parameters, flag, priority, timeout
from headgate.protocols.oip.http import EXTENSIONS
from headgate.protocols.oip.layout import remember
from headgate.tensors import Buffer

_SERVICE = "inference.GRPCInferenceService"
_LARGE = 32 * 1024
"""Bytes from which on tensors are cut out of a message before a message class would copy them, twice."""
_NO_SHARED_MEMORY = "Client shared memory is disabled; send tensors in raw_input_contents instead"
_OFF = {
    "SystemSharedMemoryStatus": _NO_SHARED_MEMORY,
    "SystemSharedMemoryRegister": _NO_SHARED_MEMORY,
    "SystemSharedMemoryUnregister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryStatus": _NO_SHARED_MEMORY,
    "CudaSharedMemoryRegister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryUnregister": _NO_SHARED_MEMORY,
    "ModelConfig": "the server does not support model configuration; ModelMetadata says what a model takes and gives",
    "ModelStatistics": "the server does not support model statistics; GET /metrics counts requests, rows and times",
    "RepositoryIndex": "the server does not support the model repository index; GET /v2/models lists what is deployed",
    "TraceSetting": "the server does not support trace",
    "LogSettings": "the server does not support dynamic logging",
}
"""Methods of features that are not here, and what is said of them."""


def _route(method: str, operation: str, scope: str = "infer", *, streaming: bool = False) -> Route:
    return Route("POST", f"/{_SERVICE}/{method}", operation, scope, "grpc", streaming=streaming)


class Outline:
    """A message that is known but for its tensors. Plans keep what they have checked of it by its identity."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address


class Incoming:
    """One request to infer as it came in."""

    __slots__ = ("blobs", "body", "message", "outline", "request")

    def __init__(self, request: Request, body: Buffer, outline: Outline | None) -> None:
        self.request = request
        self.body = body
        self.outline = outline
        """Set where the message is known."""
        self.message: Any = None
        """The protocol buffer, once it has been read."""
        self.blobs: Sequence[Buffer] = ()
        """Its ``raw_input_contents``."""


class OIPGrpc(GrpcProtocol):
    """``inference.GRPCInferenceService``."""

    name: ClassVar[str] = "oip_grpc"
    messages = Messages("headgate.protocols.oip", "messages.binpb")
    service = _SERVICE
    routes: ClassVar[Sequence[Route]] = (
        _route("ModelInfer", "infer"),
        _route("ModelStreamInfer", "infer", streaming=True),
        _route("ServerLive", "live", "open"),
        _route("ServerReady", "ready", "open"),
        _route("ModelReady", "model_ready"),
        _route("ServerMetadata", "server_metadata"),
        _route("ModelMetadata", "model_metadata"),
        _route("RepositoryModelLoad", "load_or_unload", "admin"),
        _route("RepositoryModelUnload", "load_or_unload", "admin"),
        *(_route(method, "not_offered") for method in _OFF),
    )

    def __init__(self) -> None:
        super().__init__()
        self._infers = frozenset(route.path for route in self.routes if route.operation == "infer")
        self._known: Skeletons[Outline] = Skeletons()
        self._answers = Answers()

    # ---- requests

    def parse(self, request: Request, body: Buffer) -> Any:
        """Return the message; one to infer as `Incoming`, read only where it is not known. Raises `InvalidRequest`."""
        if request.path not in self._infers:
            return super().parse(request, body)
        incoming = Incoming(request, body, self._known.find(body))
        if incoming.outline is None:
            self._read(incoming)
        return incoming

    def _read(self, incoming: Incoming) -> None:
        body, blobs = incoming.body, None
        if len(body) >= _LARGE:
            with suppress(ValueError):  # the message class will say what is wrong with it
                body, blobs = contents.split_raw(body)
        message = incoming.message = super().parse(incoming.request, body)
        incoming.blobs = blobs or message.raw_input_contents

    def address(self, request: Request, message: Incoming) -> Address:
        """The model, and its version where one is named."""
        if message.outline is not None:
            return message.outline.address
        return Address(message.message.model_name, message.message.model_version or None)

    def decode(self, request: Request, message: Incoming, plan: Plan) -> InferRequest:
        """Read a request whose tensors are raw or typed."""
        if message.outline is not None:
            layout = plan.notes.get(message.outline)
            if layout is not None:
                return layout.request(memoryview(message.body))  # type: ignore[no-any-return]  # notes hold what `remember` put there
            self._read(message)
        infer = InferRequest(len(plan.inputs))
        order = self._read_inputs(infer, message, plan)
        asked = message.message
        infer.id = asked.id or None
        if asked.parameters or asked.outputs:
            self._read_wishes(infer, asked, plan)
        plan.finish(infer)
        self._keep(message, infer, order, plan)
        return infer

    def _read_inputs(self, infer: InferRequest, message: Incoming, plan: Plan) -> list[int]:
        """Fill in shapes and data; return the indices of the inputs in the order they came."""
        blobs, inputs = message.blobs, message.message.inputs
        raw, order = len(blobs), []
        for at, tensor in enumerate(inputs):
            name = tensor.name
            into = plan.by_name.get(name) or plan.input(name)
            index = into.index
            if infer.shapes[index] is not None:
                raise InvalidRequest(f"input '{name}' already exists in request")
            shape = list(tensor.shape)
            plan.check(into, tensor.datatype, shape)
            if tensor.parameters:
                contents.check_input_parameters(name, tensor.parameters)
            if not raw:
                infer.data[index] = contents.pack_typed(tensor.contents, shape, into, plan.model)
            elif tensor.HasField("contents"):
                raise InvalidRequest(
                    f"contents field must not be specified when using raw_input_contents for '{name}' for model '{plan.model}'"
                )
            elif at < raw:
                infer.data[index] = contents.check_raw(blobs[at], shape, into, plan.model)
            else:
                raise InvalidRequest(contents.no_data(name, plan.model))
            infer.shapes[index] = shape
            order.append(index)
        if raw > len(order):
            raise InvalidRequest(
                f"unexpected additional input data for model '{plan.model}': {raw} raw_input_contents for {len(order)} inputs"
            )
        return order

    def _read_wishes(self, infer: InferRequest, asked: Any, plan: Plan) -> None:
        parameters = contents.read_parameters(asked.parameters)
        # There is one answer to a request, and it says that it is the last: no empty one need follow it.
        flag(parameters.pop("triton_enable_empty_final_response", False), "triton_enable_empty_final_response")
        check_parameters(parameters)
        infer.timeout = timeout(parameters.pop("timeout", None))
        infer.priority = priority(parameters.pop("priority", 0))
        infer.parameters = parameters or None
        wanted: list[int] = []
        for output in asked.outputs:
            index = plan.output(output.name)
            if index in wanted:
                raise InvalidRequest(f"output '{output.name}' already exists in request")
            if output.parameters:
                check_parameters(contents.read_parameters(output.parameters))
            wanted.append(index)
        infer.outputs = wanted or None

    def _keep(self, message: Incoming, infer: InferRequest, order: list[int], plan: Plan) -> None:
        """Know messages like this one from now on, where nothing in the bytes of its tensors had to be looked at."""
        # Strings and booleans are checked byte by byte, and an id belongs to one request.
        if infer.id is not None or any(plan.inputs[index].dtype.kind in ("bytes", "bool") for index in order):
            return
        view = memoryview(message.body)
        if len(view) - sum(len(infer.data[index]) for index in order) > LONGEST:
            return
        try:
            cuts = contents.find_tensors(view)
        except ValueError:
            return
        if [view[start:stop] for start, stop in cuts] != [infer.data[index] for index in order]:
            return  # typed integers, which take more or fewer bytes as they are larger or smaller
        outline = message.outline or Outline(self.address(message.request, message))
        if message.outline is not None or self._known.keep(view, cuts, outline):
            remember(plan, outline, [(index, *cut) for index, cut in zip(order, cuts, strict=True)], infer)

    # ---- answers

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer: outputs as asked for, in that order, always raw."""
        return Reply(self._answers.write(request, response))

    def encode_streamed(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one answer on a stream: the only one to its request, marked as the last."""
        return delimited(2, self._answers.write(request, response, FINAL))

    def encode_streamed_error(self, message: Incoming | None, error: HeadgateError) -> bytes | None:
        """Write an error on the stream with the id of its request; None, with the header ``triton_grpc_error``: the stream ends."""
        if message is not None and message.request.headers.get("triton_grpc_error") == "true":
            return None
        answer = self.messages.message("inference.ModelStreamInferResponse")(error_message=str(error)[:1000])
        # A message without an outline has been read, and those with one have no id.
        answer.infer_response.id = message.message.id if message is not None and message.message is not None else ""
        written: bytes = answer.SerializeToString()
        return written

    # ---- health and metadata

    def live(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """The process answers."""
        return self.write("inference.ServerLiveResponse", live=True)

    def ready(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Whether every deployment would be computed now."""
        return self.write("inference.ServerReadyResponse", ready=catalogue.ready)

    def model_ready(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Whether a request for this deployment (and version) would be computed now; of one that is not there it would not."""
        try:
            version = message.version or None
            ready = catalogue.deployment(message.name, version).version_ready(version)
        except UnknownModel:
            ready = False
        return self.write("inference.ModelReadyResponse", ready=ready)

    def server_metadata(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Name, version and what of the optional parts is there."""
        return self.write("inference.ServerMetadataResponse", name="headgate", version=__version__, extensions=EXTENSIONS)

    def model_metadata(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Inputs, outputs, versions and platform of one deployment."""
        version = message.version or None
        deployment = catalogue.deployment(message.name, version)
        signature = deployment.plan(version).signature
        tensors = {
            side: [{"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
            for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
        }
        return self.write(
            "inference.ModelMetadataResponse",
            name=deployment.name,
            versions=[str(number) for number in deployment.versions()],
            platform=deployment.platform(version),
            **tensors,
        )

    # ---- what is not here

    def load_or_unload(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Raises `NotReady`: administration has a port of its own."""
        raise NotReady(
            "explicit model load / unload is not allowed if polling is enabled: deploy with 'headgate deploy' instead",
            retry_after=None,
        )

    def not_offered(self, request: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Raises `Unsupported`."""
        raise Unsupported(_OFF[request.path.rpartition("/")[2]])
