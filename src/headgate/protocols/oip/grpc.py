"""Open Inference Protocol V2 over gRPC, with Triton's ``ModelStreamInfer``.

Source: the specification kserve/open-inference-protocol (inference_grpc.md); error texts follow Triton's, because clients match on
them. What a client sends again and again is known by its bytes (`headgate.protocols.base.skeletons`), and answers are put together by
hand: in both cases a message class would come to the same, and take several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import msgspec

from headgate import __version__
from headgate.errors import HeadgateError, InvalidRequest, UnknownModel, Unsupported
from headgate.protocols.base import Address, Catalogue, InferRequest, InferResponse, InParts, Plan, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.base.skeletons import LONGEST, Skeletons
from headgate.protocols.base.wireformat import delimited
from headgate.protocols.oip import contents
from headgate.protocols.oip.answers import FINAL, NOT_FINAL, Answers
from headgate.protocols.oip.body import check_parameters, flag, output_parameters, priority, timeout
from headgate.protocols.oip.classification import Classes
from headgate.protocols.oip.extensions import EXTENSIONS
from headgate.protocols.oip.layout import remember
from headgate.protocols.oip.messages import MESSAGES, SERVICE
from headgate.tensors import Buffer

_LARGE = 32 * 1024
"""Bytes from which on tensors are cut out of a message before a message class would copy them, twice."""
_EMPTY_FINAL = "triton_enable_empty_final_response"


def _route(method: str, operation: str, scope: str = "infer", *, streaming: bool = False) -> Route:
    return Route("POST", f"/{SERVICE}/{method}", operation, scope, "grpc", streaming=streaming)


class Outline:
    """A message that is known but for its tensors. Plans keep what they have checked of it by its identity."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address


class Incoming(msgspec.Struct, gc=False):
    """One request to infer as it came in."""

    request: Any
    """What the gateway knows of it: a `headgate.protocols.base.Request`."""
    body: Buffer
    outline: Outline | None
    """Set where the message is known."""
    message: Any = None
    """The protocol buffer, once it has been read."""
    blobs: Sequence[Buffer] = ()
    """Its ``raw_input_contents``."""


class OIPGrpc(GrpcProtocol):
    """The methods of ``inference.GRPCInferenceService`` that are the protocol's."""

    name: ClassVar[str] = "oip_grpc"
    messages = MESSAGES
    service = SERVICE
    routes: ClassVar[Sequence[Route]] = (
        _route("ModelInfer", "infer"),
        _route("ModelStreamInfer", "infer", streaming=True),
        _route("ServerLive", "live", "open"),
        _route("ServerReady", "ready", "open"),
        _route("ModelReady", "model_ready"),
        _route("ServerMetadata", "server_metadata"),
        _route("ModelMetadata", "model_metadata"),
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
                return layout.request(message.body)  # type: ignore[no-any-return]  # notes hold what `remember` put there
            self._read(message)
        infer = InferRequest.of(len(plan.inputs))
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
        # A whole answer says that it is the last; an empty one follows only the parts of an answer in parts.
        flag(parameters.pop(_EMPTY_FINAL, False), _EMPTY_FINAL)
        check_parameters(parameters, stateful=plan.stateful)
        infer.timeout = timeout(parameters.pop("timeout", None))
        infer.priority = priority(parameters.pop("priority", 0))
        infer.parameters = parameters or None
        wanted: list[int] = []
        classes: dict[int, Classes] = {}
        for output in asked.outputs:
            index = plan.output(output.name)
            if index in wanted:
                raise InvalidRequest(f"output '{output.name}' already exists in request")
            _, most = output_parameters(contents.read_parameters(output.parameters), index, plan)
            if most is not None:
                classes[index] = most
            wanted.append(index)
        infer.outputs = wanted or None
        infer.wire = classes or None

    def _keep(self, message: Incoming, infer: InferRequest, order: list[int], plan: Plan) -> None:
        """Know messages like this one from now on, where nothing in the bytes of its tensors had to be looked at."""
        # Strings and booleans are checked byte by byte, and an id belongs to one request, or to one sequence.
        if infer.id is not None or plan.stateful or any(plan.inputs[index].dtype.kind in ("bytes", "bool") for index in order):
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

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """Raises `Unsupported`: a unary call has room for one answer."""
        raise Unsupported(
            "ModelInfer RPC doesn't support models with decoupled transaction policy: the model gives its answer in parts; call "
            "ModelStreamInfer"
        )

    def encode_streamed_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one part, marked as not the last: whether it is, only shows later."""
        return delimited(2, self._answers.write(request, response, NOT_FINAL))

    def encode_streamed_end(self, message: Incoming, request: InferRequest, response: InferResponse) -> bytes | None:
        """Write the empty answer that says that it is the last, where the client has asked for it."""
        if message.message is None:
            self._read(message)
        asked = message.message.parameters
        if _EMPTY_FINAL not in asked or not asked[_EMPTY_FINAL].bool_param:
            return None
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
