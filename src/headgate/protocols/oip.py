"""Open Inference Protocol V2 over HTTP: JSON, the binary tensor data extension, metadata and health.

Source: the specification kserve/open-inference-protocol (inference_rest.md) and Triton's extension_binary_data.md; error texts
follow Triton's, because clients match on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from headgate import __version__
from headgate.errors import InvalidRequest, NotReady, Unsupported
from headgate.json_tensors import (
    NOT_JSON,
    check_depth,
    check_types,
    encode_values,
    pack_nested,
    pack_values,
    parse_json,
    parse_tolerant,
    unpack_values,
)
from headgate.protocols.base import (
    Catalogue,
    InferRequest,
    InferResponse,
    InputPlan,
    OutputTensor,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
)
from headgate.tensors import DTYPES, Buffer, elements, frame_bytes, unframe_bytes

EXTENSIONS = ["binary_tensor_data", "parameters", "schedule_policy"]
_RESERVED = ("sequence_id", "sequence_start", "sequence_end")
_OCTETS = b"application/octet-stream"


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class _FloatInput(_Input, gc=False):
    data: list[float] | None = None


class _IntInput(_Input, gc=False):
    data: list[int] | None = None


class _BytesInput(_Input, gc=False):
    data: list[str] | None = None


class _Body(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _FloatBody(_Body, gc=False):
    inputs: list[_FloatInput]  # type: ignore[assignment]  # narrowed on purpose: types are checked while parsing


class _IntBody(_Body, gc=False):
    inputs: list[_IntInput]  # type: ignore[assignment]


class _BytesBody(_Body, gc=False):
    inputs: list[_BytesInput]  # type: ignore[assignment]


_TYPED = {
    "float": msgspec.json.Decoder(_FloatBody).decode,
    "int": msgspec.json.Decoder(_IntBody).decode,
    "bytes": msgspec.json.Decoder(_BytesBody).decode,
}


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
            return self._read(self._parse(body, plan), None, plan)
        size = _header_length(length, len(body))
        view = memoryview(body)
        if size == 0:
            return _read_raw(view, plan)
        return self._read(self._parse(view[:size], plan), view[size:], plan)

    def _parse(self, body: Buffer, plan: Plan) -> _Body:
        decode = _TYPED.get(plan.kind)
        if decode is not None and len(body) < 4096:
            try:
                return decode(body)  # the short way: types are checked by the parser; deep nesting cannot fit its structs
            except NOT_JSON:
                pass  # nested data, NaN, or a mistake the long way explains
        check_depth(body)
        try:
            return decode(body) if decode is not None else _convert(parse_json(body))
        except msgspec.ValidationError:
            return _convert(parse_json(body))
        except NOT_JSON as error:
            return _convert(parse_tolerant(body, str(error)))

    def _read(self, body: _Body, blobs: memoryview | None, plan: Plan) -> InferRequest:
        request = InferRequest(len(plan.inputs))
        at = 0
        for tensor in body.inputs:
            into = plan.by_name.get(tensor.name) or plan.input(tensor.name)
            index = into.index
            if request.shapes[index] is not None:
                raise InvalidRequest(f"input '{tensor.name}' already exists in request")
            plan.check(into, tensor.datatype, tensor.shape)
            request.shapes[index] = tensor.shape
            if tensor.parameters is None:
                request.data[index] = _pack(tensor, into)
            else:
                request.data[index], at = _pack_binary(tensor, into, blobs, at, plan)
        if blobs is not None and at != len(blobs):
            raise InvalidRequest(
                f"unexpected additional input data for model '{plan.model}': {len(blobs) - at} bytes follow the last input"
            )
        request.id = body.id
        if body.parameters or body.outputs:
            self._read_wishes(request, body, plan)
        return plan.finish(request)

    def _read_wishes(self, request: InferRequest, body: _Body, plan: Plan) -> None:
        parameters = dict(body.parameters or {})
        check_parameters(parameters)
        binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
        request.timeout = _timeout(parameters.pop("timeout", None))
        request.priority = _priority(parameters.pop("priority", 0))
        request.parameters = parameters or None
        if not body.outputs:
            if binary:
                request.outputs = [(index, True) for index in plan.outputs.values()]
            return
        wanted: dict[int, bool] = {}
        for output in body.outputs:
            index = plan.outputs.get(output.name)
            if index is None:
                raise InvalidRequest(
                    f"unexpected inference output '{output.name[:200]}' for model '{plan.model}'; it gives {sorted(plan.outputs)}"
                )
            if index in wanted:
                raise InvalidRequest(f"output '{output.name}' already exists in request")
            wanted[index] = _output_binary(output, binary)
        request.outputs = list(wanted.items())

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
        for index, binary in request.outputs:
            output = response.outputs[index]
            if binary:
                blobs.append(output.data)
                parts.append(self._output(output) + b',"parameters":{"binary_data_size":%d}}' % len(output.data))
            else:
                parts.append(self._json_output(output))
        json = head + b'"outputs":[' + b",".join(parts) + b"]}"
        if not blobs:
            return Reply(json)
        return Reply(b"".join((json, *blobs)), _OCTETS, headers=b"inference-header-content-length: %d\r\n" % len(json))

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
        key = (output.name, output.dtype.name, *output.shape)
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

    def live(self, _: Request, catalogue: Catalogue) -> Reply:
        """The process answers."""
        return Reply(b'{"live":true}')

    def ready(self, _: Request, catalogue: Catalogue) -> Reply:
        """Every deployment would be computed now."""
        return Reply(b'{"ready":true}') if catalogue.ready else Reply(b'{"ready":false}', status=503)

    def server_metadata(self, _: Request, catalogue: Catalogue) -> Reply:
        """Name, version and what of the optional parts is there."""
        return _json({"name": "headgate", "version": __version__, "extensions": EXTENSIONS})

    def models(self, _: Request, catalogue: Catalogue) -> Reply:
        """KServe's listing."""
        return _json({"models": [deployment.name for deployment in catalogue.deployments()]})

    def model_metadata(self, request: Request, catalogue: Catalogue) -> Reply:
        """Inputs, outputs, versions and platform of one deployment."""
        deployment = catalogue.deployment(request.params["model"])
        version = request.params.get("version")
        plan = deployment.plan(version)
        tensors = {
            side: [{"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
            for side, specs in (("inputs", plan.signature.inputs), ("outputs", plan.signature.outputs))
        }
        return _json(
            {
                "name": deployment.name,
                "versions": [str(number) for number in deployment.versions()],
                "platform": deployment.platform(version),
                **tensors,
            }
        )

    def model_ready(self, request: Request, catalogue: Catalogue) -> Reply:
        """Whether a request for this deployment (and version) would be computed now."""
        deployment = catalogue.deployment(request.params["model"])
        if not deployment.version_ready(request.params.get("version")):
            raise NotReady(f"model '{deployment.name}' is not at ready state: no replica of it answers")
        return _json({"name": deployment.name, "ready": True})


def _json(value: object) -> Reply:
    return Reply(msgspec.json.encode(value))


def _convert(parsed: Any) -> _Body:
    try:
        return msgspec.convert(parsed, _Body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        place = path.rstrip("`").lstrip(".")
        missing = text.partition("required field `")[2].rstrip("`")
        where = f"{place}.{missing}".lstrip(".") if missing else place or "request"
        raise InvalidRequest(f"Unable to parse '{where}': {'it is missing' if missing else text[:1].lower() + text[1:]}") from None


def _pack(tensor: _Input, plan: InputPlan) -> bytes:
    data = tensor.data
    field = f"input '{plan.name}'"
    if data is None:
        raise InvalidRequest(
            f"{field}: Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But no field is set"
        )
    kind = type(tensor)
    if kind is _Input or len(data) != elements(tensor.shape):
        return pack_nested(plan.dtype, tensor.shape, data, field)
    if kind is _FloatInput or kind is _BytesInput:
        return pack_values(plan.dtype, data, field)
    check_types(plan.dtype, data, field)
    return pack_values(plan.dtype, data, field)


def _pack_binary(tensor: _Input, plan: InputPlan, blobs: memoryview | None, at: int, plans: Plan) -> tuple[Buffer, int]:
    """Return the bytes of an input that has parameters, and where the next blob starts."""
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise Unsupported(f"input '{plan.name}': Client shared memory is disabled; send the data in binary form instead")
    check_parameters(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        return _pack(tensor, plan), at
    if tensor.data is not None:
        raise InvalidRequest(
            f"input '{plan.name}': Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But set 'data' 'binary_data_size'"
        )
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"input '{plan.name}': 'binary_data_size' must be an integer of 0 or more, got {str(size)[:50]!r}")
    if blobs is None:
        raise InvalidRequest(
            "must specify valid 'Infer-Header-Content-Length' in request header (that is Inference-Header-Content-Length) and "
            "'binary_data_size' when passing inputs in binary data format"
        )
    expected = elements(tensor.shape) * plan.item_size
    if plan.item_size and size != expected:
        raise InvalidRequest(
            f"input byte size mismatch for input '{plan.name}' for model '{plans.model}'. Expected {expected}, got {size}"
        )
    data = blobs[at : at + size]
    if len(data) != size:
        raise InvalidRequest(
            f"unexpected size for input '{plan.name}', expecting {size - len(data)} additional bytes for model '{plans.model}'"
        )
    check_blob(plan, tensor.shape, data, plans.model)
    return data, at + size


def check_blob(plan: InputPlan, shape: Sequence[int], data: memoryview, model: str) -> None:
    """Refuse a BYTES blob whose framing is broken and a BOOL blob with anything but 0 and 1. Raises `InvalidRequest`."""
    if plan.dtype.kind == "bytes":
        try:
            unframe_bytes(data, elements(shape))
        except ValueError as error:
            raise InvalidRequest(
                f"incomplete string length indicator or unexpected number of string elements for inference input '{plan.name}' "
                f"for model '{model}', expecting {elements(shape)}: {error}"
            ) from None
    elif plan.dtype.kind == "bool" and bytes(data).translate(None, b"\x00\x01"):
        raise InvalidRequest(f"input '{plan.name}': BOOL bytes must be 0 or 1")


def _header_length(text: str, body: int) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise InvalidRequest(f"Unable to parse Inference-Header-Content-Length, got: {text[:50]}")
    size = int(text)
    if size > body:
        raise InvalidRequest(
            f"Unable to parse Inference-Header-Content-Length, got: {size}; inference header size should be in range (0, {body})"
        )
    return size


def _read_raw(body: memoryview, plan: Plan) -> InferRequest:
    """The whole body is the one input; one row; all outputs go back in binary form."""
    if len(plan.inputs) != 1:
        raise InvalidRequest(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(plan.inputs)} inputs "
            f"in '{plan.model}' model configuration"
        )
    only = plan.inputs[0]
    if only.tail.count(-1) > 1:
        raise InvalidRequest(
            f"The shape of the raw input '{only.name}' can not be deduced because there are more than one variable-sized dimension"
        )
    request = InferRequest(1)
    data: Buffer = body
    if only.dtype.kind == "bytes":
        tail = [1 if size < 0 else size for size in only.tail]
        if elements(tail) != 1:
            raise InvalidRequest(f"The shape of the raw input '{only.name}' can not be deduced: a raw request carries one element")
        data = frame_bytes([bytes(body)])
    else:
        known = elements(size for size in only.tail if size >= 0) * only.item_size
        whole, rest = divmod(len(body), known) if known else (0, len(body))
        if rest or (-1 not in only.tail and whole != 1):
            raise InvalidRequest(
                f"input byte size mismatch for input '{only.name}' for model '{plan.model}'. Expected {known}, got {len(body)}"
            )
        tail = [whole if size < 0 else size for size in only.tail]
        check_blob(only, tail, body, plan.model)
    request.shapes[0] = [1, *tail] if plan.batched else tail
    request.data[0] = data
    request.outputs = [(index, True) for index in plan.outputs.values()]
    return plan.finish(request)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters the protocol has no room for, and those that are reserved. Raises `InvalidRequest` or `Unsupported`."""
    for key, value in parameters.items():
        if key.startswith("triton_"):
            raise InvalidRequest(
                f"parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified: '{key[:100]}'"
            )
        if type(value) not in (str, int, float, bool):
            raise InvalidRequest(f"parameter '{key[:100]}': expected a string, number or boolean, got {type(value).__name__}")
        if key in _RESERVED:
            raise Unsupported(f"parameter '{key}': this server has no sequence batching; leave it out")
        if key in ("shared_memory_region", "classification"):
            raise Unsupported(f"parameter '{key}': this server does not offer it; leave it out")


def _output_binary(output: _Output, default: bool) -> bool:
    if not output.parameters:
        return default
    check_parameters(output.parameters)
    return _flag(output.parameters.get("binary_data", default), "binary_data")


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise InvalidRequest(f"parameter '{name}': expected true or false, got {str(value)[:50]!r}")
    return value


def _timeout(value: Any) -> float | None:
    """Microseconds on the wire, seconds here; 0 is none."""
    if value is None or value == 0:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidRequest(f"parameter 'timeout': expected microseconds as an integer of 0 or more, got {str(value)[:50]!r}")
    return value / 1e6


def _priority(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise InvalidRequest(
            f"parameter 'priority': expected an integer of 0 (default) or more, 1 being the highest, got {str(value)[:50]!r}"
        )
    return value


DATATYPES = tuple(DTYPES)
