"""The gRPC protocols without a socket: requests as the wire hands them over, and a catalogue without a gateway."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.errors import UnknownModel
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.oip import OIPGrpc
from headgate.tensors import DTYPES

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ROW = struct.pack("<16f", *range(16))
DTYPE_NAMES = list(DTYPES)
SUM = Signature(
    inputs=(TensorSpec(name="a", dtype="FP32", shape=(-1, 16)), TensorSpec(name="b", dtype="FP32", shape=(-1, 16))),
    outputs=(TensorSpec(name="sum", dtype="FP32", shape=(-1, 16)), TensorSpec(name="difference", dtype="FP32", shape=(-1, 16))),
    batched=True,
)
TYPES = Signature(
    inputs=tuple(TensorSpec(name=name.lower(), dtype=name, shape=(-1, 2), optional=True) for name in DTYPE_NAMES),
    outputs=(TensorSpec(name="same", dtype="BYTES", shape=(-1, 2)),),
    batched=True,
    parameters=True,
)


class Call:
    """`headgate.protocols.base.Request` of a gRPC method."""

    method = "POST"
    query = ""
    params: Mapping[str, str] = {}

    def __init__(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.headers = dict(headers or {})


class OneDeployment:
    """`headgate.protocols.base.DeploymentView`: versions 1 and 2, of which only 2 computes, and the alias champion for 2."""

    name = "sum"
    ready = True
    dialect = "tfserving"

    def number(self, version: str | None) -> int:
        self._check(version)
        return int(version) if version in ("1", "2") else 2

    def versions(self) -> list[int]:
        return [1, 2]

    def plan(self, version: str | None) -> Plan:
        self._check(version)
        return plan(SUM)

    def version_ready(self, version: str | None) -> bool:
        self._check(version)
        return version != "1"

    def example(self) -> Any:
        return None

    def platform(self, version: str | None) -> str:
        return "python"

    def _check(self, version: str | None) -> None:
        if version not in (None, "1", "2", "champion"):
            raise UnknownModel(f"Request for unknown model: 'sum' version {version} is not found", "sum", version)


class OneModel:
    """`headgate.protocols.base.Catalogue` with `OneDeployment`."""

    ready = True

    def deployment(self, name: str | None, version: str | None = None) -> OneDeployment:
        if name != "sum":
            raise UnknownModel(f"Request for unknown model: '{name}' is not found", name or "", version)
        return OneDeployment()

    def deployments(self) -> Iterable[OneDeployment]:
        return [OneDeployment()]

    def metrics(self) -> str:
        return ""


def plan(signature: Signature, name: str = "sum", max_rows: int = 8) -> Plan:
    """Return a plan."""
    return Plan(name, signature, max_rows=max_rows, splittable=True)


def ask(protocol: GrpcProtocol, path: str, message: Any, catalogue: Any = None) -> Any:
    """Call a method that answers at once, through its route, and return the message that comes back."""
    route = next(route for route in protocol.routes if route.path == path)
    call = Call(path)
    reply = getattr(protocol, route.operation)(call, catalogue or OneModel(), protocol.parse(call, message.SerializeToString()))
    method = protocol.messages.service(protocol.service).methods_by_name[path.rpartition("/")[2]]
    return protocol.messages.message(method.output_type.full_name).FromString(bytes(reply.body))


class Wire:
    """What a client and the gateway do to `OIPGrpc`, between them."""

    def __init__(self, signature: Signature = SUM) -> None:
        self.protocol = OIPGrpc()
        self.plan = plan(signature)
        self.request_class = self.protocol.messages.message("inference.ModelInferRequest")
        self.response_class = self.protocol.messages.message("inference.ModelInferResponse")
        self.streamed_class = self.protocol.messages.message("inference.ModelStreamInferResponse")

    def message(self, model: str = "sum", **fields: Any) -> Any:
        """Return a request without inputs."""
        return self.request_class(model_name=model, **fields)

    def both(self, **fields: Any) -> Any:
        """Return a request to ``sum`` with both inputs raw, one row each."""
        message = self.message(raw_input_contents=[ROW, ROW], **fields)
        for name in "ab":
            message.inputs.add(name=name, datatype="FP32", shape=[1, 16])
        return message

    def one(self, name: str, slot: str, values: Sequence[Any], shape: Sequence[int] = (1, 2)) -> Any:
        """Return a request to ``types`` with one typed input."""
        message = self.message("types")
        tensor = message.inputs.add(name=name.lower(), datatype=name, shape=shape)
        getattr(tensor.contents, slot).extend(values)
        return message

    def decode(self, message: Any, path: str = INFER, headers: Mapping[str, str] | None = None) -> InferRequest:
        """Return what is queued of a request (its bytes, where ``message`` is no message)."""
        body = message if isinstance(message, bytes | bytearray | memoryview) else message.SerializeToString()
        call = Call(path, headers)
        incoming = self.protocol.parse(call, body)
        return self.protocol.decode(call, incoming, self.plan)

    def encode(self, request: InferRequest, outputs: Sequence[OutputTensor]) -> Any:
        """Return the answer to ``request`` as its client reads it."""
        return self.response_class.FromString(bytes(self.protocol.encode(request, answer(outputs)).body))


def answer(outputs: Sequence[OutputTensor]) -> InferResponse:
    """Return what a replica gave."""
    return InferResponse("sum", "2", outputs, Batch(0.001, 1, 1.0))


def sums() -> list[OutputTensor]:
    """Return the outputs of ``sum``."""
    return [OutputTensor(name, DTYPES["FP32"], (1, 16), bytes([index]) * 64) for index, name in enumerate(("sum", "difference"))]
