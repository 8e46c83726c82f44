"""The gRPC services without a socket: requests as the wire hands them over, a catalogue whose replicas are played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from headgate.clock import SystemClock
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Address, Batch, InferRequest, InferResponse, OutputTensor
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.base.several import plan_of
from headgate.protocols.tfserving import ModelService, PredictionService
from headgate.protocols.tfserving.dtypes import TYPES
from headgate.protocols.tfserving.messages import MESSAGES
from headgate.routes import DeploymentRoute, RevisionRoute, RouteTable, Weight
from headgate.serving.catalogue import Catalogue
from headgate.serving.metrics import Metrics
from headgate.tensors import DTYPES

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
SUM = Signature(
    inputs=(TensorSpec(name="a", dtype="FP32", shape=(-1, 2)), TensorSpec(name="b", dtype="FP32", shape=(-1, 2))),
    outputs=(TensorSpec(name="sum", dtype="FP32", shape=(-1, 2)), TensorSpec(name="difference", dtype="FP32", shape=(-1, 2))),
    batched=True,
)
TYPED = Signature(
    inputs=tuple(TensorSpec(name=name.lower(), dtype=name, shape=(-1, 2), optional=True) for name in DTYPES),
    outputs=(TensorSpec(name="same", dtype="BYTES", shape=(-1, 2)),),
    batched=True,
)
EXAMPLES = (TensorSpec(name="inputs", dtype="BYTES", shape=(-1,)),)
CLASSIFIER = Signature(
    inputs=EXAMPLES,
    outputs=(TensorSpec(name="scores", dtype="FP32", shape=(-1, 2)), TensorSpec(name="classes", dtype="BYTES", shape=(-1, 2))),
    batched=True,
)
REGRESSOR = Signature(inputs=EXAMPLES, outputs=(TensorSpec(name="outputs", dtype="FP32", shape=(-1, 1)),), batched=True)
SEVERAL = msgspec.structs.replace(
    SUM,
    further=(
        msgspec.structs.replace(CLASSIFIER, name="named", method="classify"),
        msgspec.structs.replace(REGRESSOR, name="priced"),
        msgspec.structs.replace(SUM, name="wrong", method="regress"),
    ),
)
"""A SavedModel with four signatures: sums by default; one saved for classify, one fit for regress, and one saved for it and not fit."""


def message(name: str, /, **fields: Any) -> Any:
    """Return a new message of ``tensorflow.serving`` (or, with a dot in front, of ``tensorflow``)."""
    return MESSAGES.message(f"tensorflow{name}" if name.startswith(".") else f"tensorflow.serving.{name}")(**fields)


def spec(name: str = "m", version: int | None = None, label: str | None = None, signature: str = "") -> Any:
    """Return a ``ModelSpec``."""
    found = message("ModelSpec", name=name, signature_name=signature)
    if version is not None:
        found.version.value = version
    if label is not None:
        found.version_label = label
    return found


def tensor(dtype: str, shape: Sequence[int], content: bytes = b"", **values: Sequence[Any]) -> Any:
    """Return a ``TensorProto`` of an Open Inference Protocol's datatype."""
    found = message(".TensorProto", dtype=TYPES[dtype].number, tensor_content=content, **values)
    for size in shape:
        found.tensor_shape.dim.add(size=size)
    return found


def predict(inputs: Mapping[str, Any], *, outputs: Sequence[str] = (), of: Any = None) -> Any:
    """Return a ``PredictRequest``."""
    found = message("PredictRequest", model_spec=spec() if of is None else of, output_filter=outputs)
    for name, value in inputs.items():
        found.inputs[name].CopyFrom(value)
    return found


class Call:
    """`headgate.protocols.base.Request` of a gRPC method."""

    method, query = "POST", ""
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}

    def __init__(self, path: str) -> None:
        self.path = path


class Service:
    """What a client and the gateway do to `PredictionService`, between them."""

    def __init__(self, signature: Signature = SUM) -> None:
        self.protocol = PredictionService()
        self.plan = plan_of("m", signature, max_rows=8, splittable=True)

    def address(self, request: Any, method: str = "Predict") -> Address:
        """Return which model and version a request is for."""
        call = Call(PREDICTION + method)
        return self.protocol.address(call, self.protocol.parse(call, request.SerializeToString()))

    def decode(self, request: Any, method: str = "Predict") -> InferRequest:
        """Return what is queued of a request (its bytes, where it is no message)."""
        call = Call(PREDICTION + method)
        body = request if isinstance(request, bytes | memoryview) else request.SerializeToString()
        incoming = self.protocol.parse(call, body)
        self.protocol.address(call, incoming)
        return self.protocol.decode(call, incoming, self.plan)

    def answer(self, request: InferRequest, outputs: Sequence[OutputTensor], kind: str = "PredictResponse") -> Any:
        """Return the answer to ``request`` as its client reads it."""
        reply = self.protocol.encode(request, InferResponse("m", "7", outputs, Batch(0.001, 1, 1.0)))
        return MESSAGES.message(f"tensorflow.serving.{kind}").FromString(bytes(reply.body))


def ask(path: str, request: Any, catalogue: Catalogue) -> Any:
    """Call a method that answers at once, and return the message that comes back."""
    protocol: GrpcProtocol = ModelService() if path.startswith(MODEL) else PredictionService()
    route = next(route for route in protocol.routes if route.path == path)
    call = Call(path)
    reply = getattr(protocol, route.operation)(call, catalogue, protocol.parse(call, request.SerializeToString()))
    method = protocol.messages.service(protocol.service).methods_by_name[path.rpartition("/")[2]]
    return protocol.messages.message(method.output_type.full_name).FromString(bytes(reply.body))


def catalogue(signature: Signature = SUM) -> Catalogue:
    """Return a catalogue with the deployment m: versions 1 and 2, of which only 2 has a replica, and the deployment empty."""

    def revision(version: int) -> RevisionRoute:
        return RevisionRoute(
            name=f"m-{version}", version=version, signature=msgspec.Raw(msgspec.json.encode(signature)), platform="python",
            batch_timeout=60.0, max_rows=8, max_delay=0.0, max_queue_rows=64,
        )  # fmt: skip

    deployed = DeploymentRoute(
        name="m", model="m", timeout=30.0, split=(Weight(revision="m-2", share=10_000),), revisions=(revision(1), revision(2)),
        aliases={"before": 1, "champion": 2, "gone": 9},
    )  # fmt: skip
    found = Catalogue(SystemClock(), Metrics())
    empty = DeploymentRoute(name="empty", model="empty", timeout=30.0, split=(), revisions=())
    found.apply(RouteTable(id=1, deployments=(deployed, empty)))
    found.revisions["m-2"].linked(SimpleNamespace(ready_since=0.0))  # type: ignore[arg-type]  # nobody sends anything
    return found
