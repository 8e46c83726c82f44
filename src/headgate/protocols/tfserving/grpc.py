"""TensorFlow Serving's gRPC services: ``tensorflow.serving.PredictionService`` and ``ModelService``.

Sources: tensorflow/serving, apis/*.proto, servables/tensorflow/{predict_util,classifier,regressor,get_model_metadata_impl}.cc and
model_servers/get_model_status_impl.cc, whose error texts these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from headgate.errors import FailedPrecondition, HeadgateError, InvalidRequest, NotReady, Unsupported
from headgate.journal import WishKind
from headgate.protocols.base import Address, Catalogue, InferRequest, InferResponse, Later, Plan, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.base.wireformat import delimited
from headgate.protocols.tfserving.answers import classes_of, values_of
from headgate.protocols.tfserving.examples import request_of
from headgate.protocols.tfserving.incoming import Incoming, Known
from headgate.protocols.tfserving.messages import CLASSIFICATION, MESSAGES, METADATA, REGRESSION, RELOADED, SIGNATURES, SPEC, STATUS
from headgate.protocols.tfserving.protos import output_entry, read_tensor
from headgate.protocols.tfserving.reload import read_list
from headgate.protocols.tfserving.signatures import (
    CLASSIFY,
    PREDICT,
    REGRESS,
    all_of,
    fill_signature,
    find,
    find_for,
    listed,
    name_of,
)
from headgate.protocols.tfserving.states import check_label, check_named, states_of
from headgate.protocols.tfserving.words import worded
from headgate.tensors import Buffer

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
_PREDICT = f"/{_PREDICTION}/Predict"
_SIGNATURE_DEF = "signature_def"
"""The only field of metadata there is."""
_MAP_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class PredictionService(GrpcProtocol):
    """``tensorflow.serving.PredictionService``."""

    name: ClassVar[str] = "tfserving_grpc"
    messages = MESSAGES
    service = _PREDICTION
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", _PREDICT, "infer", transport="grpc"),
        Route("POST", f"/{_PREDICTION}/Classify", "infer", transport="grpc"),
        Route("POST", f"/{_PREDICTION}/Regress", "infer", transport="grpc"),
        Route("POST", f"/{_PREDICTION}/GetModelMetadata", "metadata", transport="grpc"),
        Route("POST", f"/{_PREDICTION}/MultiInference", "multi_inference", transport="grpc"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._known = Known()
        self._specs: dict[tuple[str, str, str], bytes] = {}

    # ---- requests

    def parse(self, request: Request, body: Buffer) -> Any:
        """Return the message; one to predict as `Incoming`, read only where it is not known. Raises `InvalidRequest`."""
        return self._known.find(body) if request.path == _PREDICT else super().parse(request, body)

    def address(self, request: Request, message: Any) -> Address:
        """The model of the spec, and its version or label."""
        if not isinstance(message, Incoming):
            return _address(message.model_spec)
        return message.outline.address if message.outline is not None else _address(message.message.model_spec)

    def decode(self, request: Request, message: Any, plan: Plan) -> InferRequest:
        """Read a request of one of the three methods."""
        if isinstance(message, Incoming):
            return self._known.request(message, plan) or self._read(message, plan)
        method = CLASSIFY if request.path.endswith("/Classify") else REGRESS
        own = find_for(method, plan, message.model_spec.signature_name)
        infer = request_of(_examples(message.input), own)
        infer.wire = method, name_of(own)
        return infer

    def _read(self, incoming: Incoming, plan: Plan) -> InferRequest:
        if incoming.message is None:
            incoming.read()
        message = incoming.message
        name = message.model_spec.signature_name
        own = find(plan, name)
        if own is None:
            raise FailedPrecondition(f'Serving signature key "{name[:200]}" not found. ({listed(plan)})')
        _check_names(message.inputs, own)
        infer = InferRequest.of(len(own.inputs))
        for name, tensor in message.inputs.items():
            into = own.by_name[name]
            content = incoming.contents.get(name)
            infer.shapes[into.index], infer.data[into.index] = read_tensor(
                tensor, tensor.tensor_content if content is None else content, into, own
            )
        infer.outputs = _filtered(message.output_filter, own)
        infer.wire = PREDICT, name_of(own)
        own.finish(infer)
        self._known.keep(incoming, _address(message.model_spec), infer, own, plan)
        return infer

    # ---- answers

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer: elements one by one, as TensorFlow Serving does, and which version they come from."""
        method, name = request.wire
        if method == PREDICT:
            chosen = response.outputs
            if request.outputs is not None:
                chosen = [chosen[index] for index in request.outputs]
            parts = [part for output in chosen for part in output_entry(output)]
            return Reply(b"".join((*parts, delimited(2, self._spec(response, name)))))
        if method == REGRESS:
            answer = REGRESSION()
            for value in values_of(response):
                answer.result.regressions.add(value=value)
        else:
            answer = CLASSIFICATION()
            for classes in classes_of(response):
                row = answer.result.classifications.add()
                for label, score in classes:
                    row.classes.add(label=label, score=score)
        answer.model_spec.MergeFromString(self._spec(response, name))
        return Reply(answer.SerializeToString())

    def _spec(self, response: InferResponse, name: str) -> bytes:
        """Return the serialized ``ModelSpec`` of an answer of the signature called ``name``."""
        key = (response.model, response.version, name)
        spec = self._specs.get(key)
        if spec is None:
            if len(self._specs) > 1000:  # names come and go with deployments
                self._specs.clear()
            message = SPEC(name=response.model, signature_name=name)
            message.version.value = int(response.version)
            spec = self._specs[key] = bytes(message.SerializeToString())
        return spec

    def worded(self, error: HeadgateError) -> HeadgateError:
        """A model, version or label that is not served, in TensorFlow Serving's words."""
        return worded(error)

    # ---- the rest

    def metadata(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Inputs and outputs, as signatures of TensorFlow. Raises `InvalidRequest` where anything else is asked for."""
        _check_spec(message)
        if not message.metadata_field:
            raise InvalidRequest("GetModelMetadataRequest must specify at least one metadata_field")
        for field in message.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidRequest(f"Metadata field {field[:200]} is not supported (there is '{_SIGNATURE_DEF}')")
        model, version = _address(message.model_spec)
        answer, signatures = METADATA(), SIGNATURES()
        deployment = catalogue.deployment(model, version)
        for each in all_of(deployment.plan(version)):
            fill_signature(signatures.signature_def[name_of(each)], each.signature)
        answer.model_spec.version.value = deployment.number(version)
        answer.model_spec.name = deployment.name
        answer.metadata[_SIGNATURE_DEF].type_url = _MAP_TYPE
        answer.metadata[_SIGNATURE_DEF].value = signatures.SerializeToString()
        return Reply(answer.SerializeToString())

    def multi_inference(self, _: Request, catalogue: Catalogue, _message: Any) -> Reply:
        """Raises `Unsupported`."""
        raise Unsupported("MultiInference is not offered: send one Classify or Regress for each task")


class ModelService(GrpcProtocol):
    """``tensorflow.serving.ModelService``."""

    name: ClassVar[str] = "tfserving_grpc_models"
    messages = MESSAGES
    service = _MODEL
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", f"/{_MODEL}/GetModelStatus", "status", transport="grpc"),
        Route("POST", f"/{_MODEL}/HandleReloadConfigRequest", "reload_config", "admin", "grpc"),
    )

    def status(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Which versions there are, and whether they are available."""
        _check_spec(message)
        answer = STATUS()
        for state in states_of(catalogue, _address(message.model_spec)):
            entry = answer.model_version_status.add(version=state.version, state=state.name)
            entry.status.SetInParent()  # error_code OK is its default
        return Reply(answer.SerializeToString())

    def reload_config(self, _: Request, catalogue: Catalogue, message: Any) -> Later:
        """Serve the models of a list and no others. Raises `Unsupported` where clients may not, or for what is not followed here."""
        try:
            catalogue.check_administration()
        except NotReady:
            raise Unsupported(
                "HandleReloadConfigRequest is not offered: what is served is not set over the inference port; use 'headgate deploy', "
                "'headgate stop' and 'headgate alias', or start the server with --model-control explicit"
            ) from None
        models = read_list(message)
        answer = RELOADED()
        answer.status.SetInParent()  # error_code OK is its default
        return catalogue.wish(WishKind.RELOAD, "", Reply(answer.SerializeToString()), models)


def _check_spec(message: Any) -> None:
    if not message.HasField("model_spec"):
        raise InvalidRequest("Missing ModelSpec")


def _address(spec: Any) -> Address:
    """Return which model a spec names, and which version or label of it. Raises `InvalidRequest`."""
    choice = spec.WhichOneof("version_choice")
    version = None
    if choice == "version":
        version = str(spec.version.value)
    elif choice == "version_label":
        version = spec.version_label
        check_label(version)
    address = Address(spec.name, version)
    check_named(address)
    return address


def _check_names(inputs: Any, plan: Plan) -> None:
    """Refuse a request whose inputs are not those of the signature. Raises `InvalidRequest`."""
    sent, known = set(inputs), set(plan.by_name)
    missing = {into.name for into in plan.inputs if not into.optional} - sent
    if missing or not sent <= known:
        lists = [",".join(sorted(name[:200] for name in names)) for names in (sent, known, sent - known, missing)]
        raise InvalidRequest(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{lists[0]}}}) != len({{{lists[1]}}}). "
            f"Sent extra: {{{lists[2]}}}. Missing but required: {{{lists[3]}}}."
        )


def _filtered(names: Sequence[str], plan: Plan) -> list[int] | None:
    """Return the indices of the outputs asked for; None: all. Raises `InvalidRequest`."""
    wanted: list[int] = []
    for name in names:
        if name not in plan.outputs:
            raise InvalidRequest(
                f"output tensor alias not found in signature: {name[:200]} Outputs expected to be in the set "
                f"{{{','.join(sorted(plan.outputs))}}}."
            )
        if plan.outputs[name] in wanted:
            raise InvalidRequest(f"duplicate output tensor alias: {name}")
        wanted.append(plan.outputs[name])
    return wanted or None


def _examples(message: Any) -> list[bytes]:
    """Return the serialized examples of an ``Input``, with the features of its context in each. Raises `InvalidRequest`."""
    kind = message.WhichOneof("kind")
    listed = getattr(message, kind) if kind else None
    if listed is None or not listed.examples:
        raise InvalidRequest("Input is empty.")
    context = listed.context.SerializeToString() if kind == "example_list_with_context" else b""
    return [context + example.SerializeToString() for example in listed.examples]
