"""``triton_python_backend_utils``: what models of Triton's Python back end import, as far as it needs no shared memory.

The names are those of its documentation; what is not there says so when it is asked for. Calls to other models are refused.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from headgate.tensors import BY_NUMPY, DTYPES, frame_bytes, unframe_bytes

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_GPU = 1


class TritonModelException(Exception):
    """What a model raises, or a response's error becomes."""


class TritonError:
    """The error of one response."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = str(message), code

    def message(self) -> str:
        """Return its text."""
        return self._message

    def code(self) -> int:
        """Return its code, one of the class's constants."""
        return self._code


class Tensor:
    """A named array in the memory of this process."""

    def __init__(self, name: str, array: Any) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException(f"Tensor({name!r}, ...): expected a NumPy array, got a {type(array).__name__}")
        self._name, self._array = str(name), array

    def name(self) -> str:
        """Return its name."""
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """Return the array; text is an object array of `bytes`. That of a request may be read-only."""
        return self._array

    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        return tuple(self._array.shape)

    def triton_dtype(self) -> str:
        """Return the name of its datatype, such as ``TYPE_FP32``."""
        return str(numpy_to_triton_type(self._array.dtype))

    def is_cpu(self) -> bool:
        """Return True: tensors are never on a GPU here."""
        return True

    def to_dlpack(self) -> Any:
        """Return a DLPack capsule, which has an array of its own: those of requests may be read-only."""
        return self._array.copy().__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.copy().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:
        """Return a tensor over what another library holds on the CPU. Raises `TritonModelException` for a bare capsule."""
        if not hasattr(tensor, "__dlpack__"):
            raise TritonModelException("from_dlpack() takes the tensor itself (anything with __dlpack__), not its capsule")
        return Tensor(name, np.from_dlpack(tensor))


class InferenceResponse:
    """What a model answers to one request."""

    def __init__(
        self, output_tensors: Iterable[Tensor] = (), error: TritonError | str | None = None, parameters: Any = None
    ) -> None:
        self._tensors = list(output_tensors)
        self._error = TritonError(str(error)) if error is not None and not isinstance(error, TritonError) else error
        self._parameters = parameters

    def output_tensors(self) -> list[Tensor]:
        """Return the tensors."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether it is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Return the error, if it is one."""
        return self._error

    def parameters(self) -> str:
        """Return the parameters as JSON. They are not sent."""
        return json.dumps(self._parameters or {})


class InferenceRequest:
    """What a model is asked."""

    def __init__(
        self,
        *,
        model_name: str = "",
        requested_output_names: Iterable[str] = (),
        inputs: Iterable[Tensor] = (),
        model_version: int = -1,
        parameters: Mapping[str, object] | None = None,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        **_: Any,
    ) -> None:
        self.model_name, self.model_version = model_name, model_version
        self._outputs = list(requested_output_names)
        self._inputs = list(inputs)
        self._parameters = dict(parameters or {})
        self._id, self._correlation, self._flags, self._timeout = request_id, correlation_id, flags, timeout
        self._ended, self._cancelled = threading.Event(), False
        self.sent: queue.SimpleQueue[InferenceResponse | BaseException | None] = queue.SimpleQueue()
        """What was sent to it; None at the end."""

    def inputs(self) -> list[Tensor]:
        """Return the tensors; optional ones that were not sent are not among them."""
        return self._inputs

    def requested_output_names(self) -> list[str]:
        """Return the names of all outputs: which of them a client wants is decided when it is answered."""
        return self._outputs

    def request_id(self) -> str:
        """Return an empty string: the rows of several requests may be in it."""
        return self._id

    def correlation_id(self) -> int | str:
        """Return the id of the sequence, a number or a text; 0 where there is none."""
        return self._correlation

    def flags(self) -> int:
        """Return whether it starts (bit 0) and ends (bit 1) a sequence."""
        return self._flags

    def timeout(self) -> int:
        """Return 0: deadlines are kept before the model is asked."""
        return self._timeout

    def parameters(self) -> str:
        """Return the parameters of the request as JSON."""
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for further responses."""
        return self._cancelled

    def get_response_sender(self) -> InferenceResponseSender:
        """Return what a decoupled model sends its responses by."""
        return InferenceResponseSender(self)

    def set_release_flags(self, flags: int) -> None:
        """Accept that the request is released, which is always done. Raises `TritonModelException` for another turn of it."""
        if flags & TRITONSERVER_REQUEST_RELEASE_RESCHEDULE:
            raise TritonModelException("requests are not scheduled again here; answer it")

    def exec(self, decoupled: bool = False, **_: Any) -> NoReturn:
        """Refuse to call another model. Raises `TritonModelException`."""
        raise TritonModelException(f"{self.model_name!r} cannot be called from within a model here; call it from the client")

    async def async_exec(self, decoupled: bool = False, **_: Any) -> NoReturn:
        """Refuse to call another model. Raises `TritonModelException`."""
        self.exec(decoupled)

    def put(self, response: InferenceResponse | None, *, last: bool) -> None:
        """Take what the model sends. Raises `TritonModelException` after the last."""
        if self._ended.is_set():
            raise TritonModelException("a response was sent after the one with TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        if response is not None:
            self.sent.put(response)
        if last:
            self.end()

    def fail(self, error: BaseException) -> None:
        """Take what the model raised: nothing follows."""
        self.sent.put(error)
        self.end()

    def end(self) -> None:
        """Nothing more is sent."""
        self._ended.set()
        self.sent.put(None)

    def cancel(self) -> None:
        """Nobody waits for more."""
        self._cancelled = True

    def wait_for_end(self) -> None:
        """Wait until the last response is sent."""
        self._ended.wait()


class InferenceResponseSender:
    """How a decoupled model answers."""

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, the last one with ``flags=TRITONSERVER_RESPONSE_COMPLETE_FINAL``, which may also come alone."""
        if response is None and not flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL:
            raise TritonModelException("send() without a response needs TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        self._request.put(response, last=bool(flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL))

    def is_cancelled(self) -> bool:
        """Whether nobody waits for further responses."""
        return self._request.is_cancelled()


class ModelConfig:
    """The configuration, for ``auto_complete_config``: what is there already stays, and may be said again."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config: dict[str, Any] = json.loads(json.dumps(config))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return self._config

    def add_input(self, tensor: Mapping[str, Any]) -> None:
        """Declare an input: ``{"name", "data_type", "dims"}``, perhaps ``"optional"``."""
        self._add("input", tensor)

    def add_output(self, tensor: Mapping[str, Any]) -> None:
        """Declare an output: ``{"name", "data_type", "dims"}``."""
        self._add("output", tensor)

    def set_max_batch_size(self, size: int) -> None:
        """Set the most rows of a batch; 0 is none."""
        if self._config.get("max_batch_size", 0) < size:
            self._config["max_batch_size"] = size

    def set_dynamic_batching(self) -> None:
        """Accept batches of several requests, which is the case wherever there is a batch axis."""
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, policy: Mapping[str, Any]) -> None:
        """Say whether the model is decoupled."""
        self._config["model_transaction_policy"] = dict(policy)

    def _add(self, key: str, tensor: Mapping[str, Any]) -> None:
        missing = [field for field in ("name", "data_type", "dims") if field not in tensor]
        if missing:
            raise TritonModelException(f"add_{key}(): {missing[0]!r} is missing in {dict(tensor)}")
        there = self._config.setdefault(key, [])
        known = next((other for other in there if other["name"] == tensor["name"]), None)
        if known is None:
            there.append(dict(tensor))
        elif (known["data_type"], list(known["dims"])) != (tensor["data_type"], list(tensor["dims"])):
            raise TritonModelException(f"add_{key}(): {tensor['name']!r} is declared otherwise in config.pbtxt")


class Logger:
    """Lines in the replica's log."""

    INFO, WARNING, ERROR, VERBOSE = range(4)

    @staticmethod
    def log(message: str, level: int = INFO) -> None:
        """Write a line."""
        print(message, file=sys.stderr, flush=True)

    log_info = log_warn = log_error = log_verbose = log


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """Return the input called ``name``, or None."""
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    """Return the output called ``name``, or None."""
    return next((tensor for tensor in response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return what the configuration says of the input ``name``, or None."""
    return next((tensor for tensor in model_config.get("input", ()) if tensor["name"] == name), None)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return what the configuration says of the output ``name``, or None."""
    return next((tensor for tensor in model_config.get("output", ()) if tensor["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether the model is decoupled."""
    return bool((model_config.get("model_transaction_policy") or {}).get("decoupled", False))


def triton_string_to_numpy(triton_type: str) -> Any:
    """Return NumPy's type of ``TYPE_FP32``; text is `numpy.object_`, and BF16, which it lacks, float32. Raises `KeyError`."""
    name = triton_type.removeprefix("TYPE_")
    numpy = {"STRING": "object", "BF16": "float32"}.get(name) or DTYPES[name].numpy
    return np.dtype(numpy).type


def numpy_to_triton_type(dtype: Any) -> str:
    """Return ``TYPE_FP32`` of NumPy's type. Raises `KeyError`."""
    kind = np.dtype(dtype)
    return "TYPE_STRING" if kind.kind in "OSU" else f"TYPE_{BY_NUMPY[kind.name]}"


def serialize_byte_tensor(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return the binary form of an array of text as an array of one object."""
    items = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist())
    return np.array([frame_bytes(items)], dtype=object)


def deserialize_bytes_tensor(data: bytes) -> np.ndarray[Any, Any]:
    """Return the elements of the binary form of an array of text. Raises `ValueError`."""
    items: list[bytes] = []
    at = 0
    while at + 4 <= len(data):
        stop = at + 4 + int.from_bytes(data[at : at + 4], "little")
        items += unframe_bytes(data[at:stop], 1)
        at = stop
    return np.array(items, dtype=object)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"triton_python_backend_utils has no {name!r} here: what needs shared memory, other models or metrics of its own is not served"
    )
