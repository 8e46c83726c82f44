"""Open Inference Protocol V2 over HTTP: JSON, the binary tensor data extension, metadata and health.

Source: the specification kserve/open-inference-protocol (inference_rest.md) and Triton's extension_binary_data.md; error texts
follow Triton's, because clients match on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from headgate import __version__
from headgate.errors import InvalidRequest, NotReady, Unsupported
from headgate.json_tensors import encode_values, unpack_values
from headgate.package.signature import TensorSpec
from headgate.protocols.base import (
    Catalogue,
    InferRequest,
    InferResponse,
    InParts,
    OutputTensor,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
)
from headgate.protocols.oip.body import Body, check_parameters, flag, output_parameters, parse, priority, timeout
from headgate.protocols.oip.classification import Classes, with_classes
from headgate.protocols.oip.extensions import EXTENSIONS
from headgate.protocols.oip.inputs import header_length, pack, pack_binary, read_raw
from headgate.protocols.oip.layout import keep, known
from headgate.tensors import Buffer, elements

_OCTETS = b"application/octet-stream"


class OIP(Protocol):
    """`/v2`."""

    name: ClassVar[str] = "oip_http"
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", "/v2/models/{model}/infer", "infer"),
        Route("POST", "/v2/models/{model}/versions/{version}/infer", "infer"),
        Route("GET", "/v2/health/live", "live", "open"),
        Route("GET", "/v2/health/ready", "ready", "open"),
        Route("GET", "/v2", "server_metadata"),
        Route("GET", "/v2/", "server_metadata"),
        Route("GET", "/v2/models", "models"),
        Route("GET", "/v2/models/{model}", "model_metadata"),
        Route("GET", "/v2/models/{model}/versions/{version}", "model_metadata"),
        Route("GET", "/v2/models/{model}/ready", "model_ready"),
        Route("GET", "/v2/models/{model}/versions/{version}/ready", "model_ready"),
    )

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str], bytes] = {}
        self._outputs: dict[tuple[object, ...], bytes] = {}

    # ---- requests

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read an infer request in any of its three forms: JSON, JSON with binary tensors behind it, or one raw tensor."""
        length = request.headers.get("inference-header-content-length")
        if length is None:
            return self._read(parse(body, plan), None, plan)
        size = header_length(length, len(body))
        if size == 0:
            return read_raw(memoryview(body), plan)
        json = bytes(body[:size])
        layout = known(plan, json, len(body))
        if layout is not None:
            return layout.request(body)
        parsed = parse(json, plan)
        infer = self._read(parsed, memoryview(body)[size:], plan)
        keep(plan, json, len(body), infer, [plan.by_name[tensor.name].index for tensor in parsed.inputs])
        return infer

    def _read(self, body: Body, blobs: memoryview | None, plan: Plan) -> InferRequest:
        request = InferRequest.of(len(plan.inputs))
        at = 0
        for tensor in body.inputs:
            into = plan.by_name.get(tensor.name) or plan.input(tensor.name)
            index = into.index
            if request.shapes[index] is not None:
                raise InvalidRequest(f"input '{tensor.name}' already exists in request")
            plan.check(into, tensor.datatype, tensor.shape)
            request.shapes[index] = tensor.shape
            if tensor.parameters is None:
                request.data[index] = pack(tensor, into)
            else:
                request.data[index], at = pack_binary(tensor, into, blobs, at, plan)
        if blobs is not None and at != len(blobs):
            raise InvalidRequest(
                f"unexpected additional input data for model '{plan.model}': {len(blobs) - at} bytes follow the last input"
            )
        request.id = body.id
        if body.parameters or body.outputs:
            self._read_wishes(request, body, plan)
        return plan.finish(request)

    def _read_wishes(self, request: InferRequest, body: Body, plan: Plan) -> None:
        parameters = dict(body.parameters or {})
        check_parameters(parameters, stateful=plan.stateful)
        binary = flag(parameters.pop("binary_data_output", False), "binary_data_output")
        request.timeout = timeout(parameters.pop("timeout", None))
        request.priority = priority(parameters.pop("priority", 0))
        request.parameters = parameters or None
        if not body.outputs:
            if binary:
                request.outputs = [(index, True) for index in plan.outputs.values()]
            return
        wanted: dict[int, bool] = {}
        classes: dict[int, Classes] = {}
        for output in body.outputs:
            index = plan.output(output.name)
            if index in wanted:
                raise InvalidRequest(f"output '{output.name}' already exists in request")
            asked, most = output_parameters(output.parameters, index, plan)
            wanted[index] = flag(asked.get("binary_data", binary), "binary_data")
            if most is not None:
                classes[index] = most
        request.outputs = list(wanted.items())
        request.wire = classes or None

    # ---- answers

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer: outputs as asked for, in that order; binary ones behind the JSON."""
        head = self._head(response)
        if request.id is not None:
            head += b'"id":' + msgspec.json.encode(request.id) + b","
        if request.outputs is None:
            parts = [self._json_output(output) for output in response.outputs]
            return Reply(head + b'"outputs":[' + b",".join(parts) + b"]}")
        parts, blobs = [], []
        outputs = response.outputs if request.wire is None else with_classes(response.outputs, request.wire)
        for index, binary in request.outputs:
            output = outputs[index]
            if binary:
                blobs.append(output.data)
                parts.append(self._output(output) + b',"parameters":{"binary_data_size":%d}}' % len(output.data))
            else:
                parts.append(self._json_output(output))
        json = head + b'"outputs":[' + b",".join(parts) + b"]}"
        if not blobs:
            return Reply(json)
        return Reply(b"".join((json, *blobs)), _OCTETS, headers=b"inference-header-content-length: %d\r\n" % len(json))

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """Raises `Unsupported`: there is room for one answer."""
        raise Unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy: the model gives its answer in parts; ask for them at "
            "/v2/models/NAME/generate_stream"
        )

    def _head(self, response: InferResponse) -> bytes:
        key = (response.model, response.version)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) > 1000:  # names come and go with deployments
                self._heads.clear()
            text = msgspec.json.encode({"model_name": response.model, "model_version": response.version})
            head = self._heads[key] = text[:-1] + b","
        return head

    def _output(self, output: OutputTensor) -> bytes:
        """The members before the data; the same for most answers, so kept."""
        key = (output.name, output.dtype.name, tuple(output.shape))
        start = self._outputs.get(key)
        if start is None:
            if len(self._outputs) > 10_000:
                self._outputs.clear()
            text = msgspec.json.encode({"name": output.name, "datatype": output.dtype.name, "shape": list(output.shape)})
            start = self._outputs[key] = text[:-1]
        return start

    def _json_output(self, output: OutputTensor) -> bytes:
        values = unpack_values(output.dtype, output.data, elements(output.shape), f"output '{output.name}'")
        return self._output(output) + b',"data":' + encode_values(values) + b"}"

    # ---- health and metadata

    def live(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """The process answers."""
        return Reply(b'{"live":true}')

    def ready(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Every deployment would be computed now."""
        return Reply(b'{"ready":true}') if catalogue.ready else Reply(b'{"ready":false}', status=503)

    def server_metadata(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Name, version and what of the optional parts is there."""
        return _json({"name": "headgate", "version": __version__, "extensions": EXTENSIONS})

    def models(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """KServe's listing."""
        return _json({"models": [deployment.name for deployment in catalogue.deployments()]})

    def model_metadata(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Inputs, outputs, versions and platform of one deployment."""
        deployment = catalogue.deployment(request.params["model"])
        version = request.params.get("version")
        plan = deployment.plan(version)
        tensors = {
            side: [_described(spec) for spec in specs]
            for side, specs in (("inputs", plan.signature.inputs), ("outputs", plan.signature.outputs))
        }
        return _json(
            {
                "name": deployment.name,
                "versions": [str(number) for number in deployment.versions()],
                "platform": deployment.platform(version),
                **tensors,
                **({"streams": True} if plan.streams else {}),
                **({"stateful": True} if plan.stateful else {}),
            }
        )

    def model_ready(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Whether a request for this deployment (and version) would be computed now."""
        deployment = catalogue.deployment(request.params["model"])
        if not deployment.version_ready(request.params.get("version")):
            raise NotReady(f"model '{deployment.name}' is not at ready state: no replica of it answers")
        return _json({"name": deployment.name, "ready": True})


def _described(spec: TensorSpec) -> dict[str, Any]:
    """Return one tensor as metadata has it; ``optional`` is ours, as Triton's model configuration calls it."""
    fields: dict[str, Any] = {"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)}
    return {**fields, "optional": True} if spec.optional else fields


def _json(value: object) -> Reply:
    return Reply(msgspec.json.encode(value))
