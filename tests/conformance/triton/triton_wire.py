"""The same questions to a server over HTTP and over gRPC, with the answers in the same form."""

from __future__ import annotations

import json
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import hpack
from serving import Served, Server, eventually

from headgate.protocols.oip.messages import MESSAGES, SERVICE, plain
from headgate.serving.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    PREFACE,
    frame,
    settings,
    unpack_head,
    window_update,
)
from headgate.tensors import frame_bytes, unframe_bytes

_CODES = {400: 3, 404: 5, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}
"""HTTP status -> gRPC code of the same error."""
_FORMS = {"INT64": "q", "FP32": "f", "FP64": "d", "UINT8": "B", "INT32": "i"}


class Tensor(NamedTuple):
    """One input or output."""

    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


class Refused(Exception):
    """The server refused; ``status`` is the HTTP status, or the one that the gRPC code stands for."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Wire(ABC):
    """A client. Every method raises `Refused`."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @abstractmethod
    def extensions(self) -> list[str]:
        """Return the server's extensions."""

    @abstractmethod
    def config(self, model: str, version: str = "") -> Any:
        """Return the configuration of a model."""

    @abstractmethod
    def statistics(self, model: str = "", version: str = "") -> list[Any]:
        """Return the statistics of one model, or of all."""

    @abstractmethod
    def index(self, ready: bool | None = None, repository: str = "") -> list[dict[str, str]]:
        """Return the repository index, without what is empty."""

    @abstractmethod
    def load(self, model: str, parameters: Mapping[str, Any] | None = None, repository: str = "", verb: str = "load") -> None:
        """Load or unload a model."""

    @abstractmethod
    def trace(self, model: str = "", **changes: Any) -> dict[str, Any]:
        """Return, or change, the settings of traces."""

    @abstractmethod
    def log(self, **changes: Any) -> dict[str, Any]:
        """Return, or change, the settings of the log."""

    @abstractmethod
    def shared_memory(self, kind: str, verb: str) -> None:
        """Ask for the status of shared memory (``system``, ``cuda``), or register or unregister a region."""

    @abstractmethod
    def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Mapping[str, Any]] | None = None,
        version: str = "",
    ) -> dict[str, Tensor]:
        """Infer; ``outputs`` are those asked for, with their parameters."""


class HttpWire(Wire):
    """Over HTTP."""

    def extensions(self) -> list[str]:
        found: list[str] = self._call("GET", "/v2")["extensions"]
        return found

    def config(self, model: str, version: str = "") -> Any:
        return self._call("GET", f"{_path(model, version)}/config")

    def statistics(self, model: str = "", version: str = "") -> list[Any]:
        path = _path(model, version) if model else "/v2/models"
        found: list[Any] = self._call("GET", f"{path}/stats")["model_stats"]
        return found

    def index(self, ready: bool | None = None, repository: str = "") -> list[dict[str, str]]:
        body = b"" if ready is None else json.dumps({"ready": ready}).encode()
        found: list[dict[str, str]] = self._call("POST", f"/v2/repository{_in(repository)}/index", body)
        return found

    def load(self, model: str, parameters: Mapping[str, Any] | None = None, repository: str = "", verb: str = "load") -> None:
        body = {} if parameters is None else {"parameters": dict(parameters)}
        self._call("POST", f"/v2/repository{_in(repository)}/models/{model}/{verb}", json.dumps(body).encode())

    def trace(self, model: str = "", **changes: Any) -> dict[str, Any]:
        path = f"{_path(model) if model else '/v2'}/trace/setting"
        found: dict[str, Any] = self._call("POST", path, json.dumps(changes).encode()) if changes else self._call("GET", path)
        return found

    def log(self, **changes: Any) -> dict[str, Any]:
        body = json.dumps(changes).encode()
        found: dict[str, Any] = self._call("POST", "/v2/logging", body) if changes else self._call("GET", "/v2/logging")
        return found

    def shared_memory(self, kind: str, verb: str) -> None:
        if verb == "status":
            self._call("GET", f"/v2/{kind}sharedmemory/status")
        self._call("POST", f"/v2/{kind}sharedmemory/region/mine/{verb}", b"{}")

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Mapping[str, Any]] | None = None,
        version: str = "",
    ) -> dict[str, Tensor]:
        body: dict[str, Any] = {
            "inputs": [
                {"name": name, "datatype": one.datatype, "shape": list(one.shape), "data": list(one.data)}
                for name, one in inputs.items()
            ]
        }
        if parameters is not None:
            body["parameters"] = dict(parameters)
        if outputs is not None:
            body["outputs"] = [{"name": name, "parameters": dict(asked)} for name, asked in outputs.items()]
        answer = self._call("POST", f"{_path(model, version)}/infer", json.dumps(body).encode())
        return {one["name"]: Tensor(one["datatype"], one["shape"], one["data"]) for one in answer["outputs"]}

    def _call(self, method: str, path: str, body: bytes | None = None) -> Any:
        answer = self.server.request(method, path, body)
        if answer.status != 200:
            raise Refused(answer.status, answer.error)
        return answer.json if answer.body else None


class GrpcWire(Wire):
    """Over gRPC: one connection a call."""

    def extensions(self) -> list[str]:
        return list(self._call("ServerMetadata", "ServerMetadataRequest").extensions)

    def config(self, model: str, version: str = "") -> Any:
        return plain(self._call("ModelConfig", "ModelConfigRequest", name=model, version=version).config)

    def statistics(self, model: str = "", version: str = "") -> list[Any]:
        answer = self._call("ModelStatistics", "ModelStatisticsRequest", name=model, version=version)
        return [plain(entry) for entry in answer.model_stats]

    def index(self, ready: bool | None = None, repository: str = "") -> list[dict[str, str]]:
        answer = self._call("RepositoryIndex", "RepositoryIndexRequest", ready=bool(ready), repository_name=repository)
        return [{key: value for key, value in plain(entry).items() if value} for entry in answer.models]

    def load(self, model: str, parameters: Mapping[str, Any] | None = None, repository: str = "", verb: str = "load") -> None:
        method = f"RepositoryModel{verb.capitalize()}"
        kinds = {bool: "bool_param", int: "int64_param", str: "string_param", bytes: "bytes_param"}
        values = {key: {kinds[type(value)]: value} for key, value in (parameters or {}).items()}
        self._call(method, f"{method}Request", model_name=model, repository_name=repository, parameters=values)

    def trace(self, model: str = "", **changes: Any) -> dict[str, Any]:
        settings_ = {key: {"value": value if isinstance(value, list) else [value]} for key, value in changes.items()}
        answer = self._call("TraceSetting", "TraceSettingRequest", model_name=model, settings=settings_)
        values = {key: list(value.value) for key, value in answer.settings.items()}
        return {key: value if key == "trace_level" else value[0] for key, value in values.items()}

    def log(self, **changes: Any) -> dict[str, Any]:
        settings_ = {key: {"bool_param": value} for key, value in changes.items()}
        answer = self._call("LogSettings", "LogSettingsRequest", settings=settings_)
        return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in answer.settings.items()}

    def shared_memory(self, kind: str, verb: str) -> None:
        method = f"{kind.capitalize()}SharedMemory{verb.capitalize()}"
        self._call(method, f"{method}Request")

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Mapping[str, Any]] | None = None,
        version: str = "",
    ) -> dict[str, Tensor]:
        asked = MESSAGES.message("inference.ModelInferRequest")(model_name=model, model_version=version)
        for name, one in inputs.items():
            asked.inputs.add(name=name, datatype=one.datatype, shape=one.shape)
            asked.raw_input_contents.append(_packed(one))
        _fill(asked.parameters, parameters or {})
        for name, wanted in (outputs or {}).items():
            _fill(asked.outputs.add(name=name).parameters, wanted)
        answer = self._send("ModelInfer", asked)
        return {
            one.name: Tensor(one.datatype, list(one.shape), _unpacked(one.datatype, blob))
            for one, blob in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    def _call(self, method: str, request: str, **fields: Any) -> Any:
        return self._send(method, MESSAGES.message(f"inference.{request}")(**fields))

    def _send(self, method: str, message: Any) -> Any:
        code, text, body = unary(self.server, f"/{SERVICE}/{method}", message.SerializeToString())
        if code:
            raise Refused(next(status for status, known in _CODES.items() if known == code), text)
        answer = MESSAGES.service(SERVICE).methods_by_name[method].output_type.full_name
        return MESSAGES.message(answer).FromString(body)


def all_linked(server: Server, models: Iterable[Served]) -> None:
    """Wait until every replica of ``models`` can compute, not only one of each."""
    wanted = sum(served.replicas for served in models)
    eventually(lambda: server.metric("headgate_replicas_ready") == wanted, "all replicas are ready")


def unary(server: Server, path: str, message: bytes, **metadata: str) -> tuple[int, str, bytes]:
    """Make one call on a connection of its own; return its status, its message in words, and the answer."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    block = hpack.Encoder().encode([*fields.items(), ("content-type", "application/grpc"), *metadata.items()])
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    with server.connect() as sock:
        sock.sendall(PREFACE + settings([]) + window_update(0, 1 << 30))
        sock.sendall(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, body))
        return _read_call(sock)


def _read_call(sock: socket.socket) -> tuple[int, str, bytes]:
    decoder, found, body = hpack.Decoder(), dict[str, str](), b""
    with sock.makefile("rb") as said:
        while True:
            head = said.read(FRAME_HEAD)
            word, flags, stream = unpack_head(head, 0)
            payload = said.read(word >> 8)
            kind = word & 0xFF
            assert kind != GOAWAY, payload
            if kind == HEADERS:
                found.update(decoder.decode(payload))
            elif kind == DATA:
                body += payload
            if stream == 1 and kind in (HEADERS, DATA) and flags & END_STREAM:
                return int(found["grpc-status"]), unquote(found.get("grpc-message", "")), body[5:]


def _path(model: str, version: str = "") -> str:
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def _in(repository: str) -> str:
    return f"/{repository}" if repository else ""


def _fill(into: Any, parameters: Mapping[str, Any]) -> None:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for key, value in parameters.items():
        setattr(into[key], kinds[type(value)], value)


def _packed(one: Tensor) -> bytes:
    if one.datatype == "BYTES":
        return frame_bytes([item.encode() for item in one.data])
    return struct.pack(f"<{len(one.data)}{_FORMS[one.datatype]}", *one.data)


def _unpacked(datatype: str, blob: bytes) -> list[Any]:
    if datatype == "BYTES":
        count, at = 0, 0
        while at < len(blob):
            at += 4 + int.from_bytes(blob[at : at + 4], "little")
            count += 1
        return [item.decode() for item in unframe_bytes(blob, count)]
    return list(struct.unpack(f"<{len(blob) // struct.calcsize(_FORMS[datatype])}{_FORMS[datatype]}", blob))
