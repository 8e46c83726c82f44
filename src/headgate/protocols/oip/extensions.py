"""Triton's extensions of the Open Inference Protocol, over HTTP and over gRPC: the same operations, in two forms.

Source: triton-inference-server/server, docs/protocol/extension_*.md, and the published messages. What a client asks is a mapping of names
to values, whichever way it came; what it is told is a message, which over HTTP is written as JSON. The extensions that change how a
request to infer is read (binary tensors, parameters, classification, sequences) are in the two protocols themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from headgate.errors import InvalidRequest, Unsupported
from headgate.json_tensors import check_depth, parse_json
from headgate.protocols.base import Catalogue, InferRequest, InferResponse, Later, Plan, Protocol, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.oip import repository
from headgate.protocols.oip.messages import MESSAGES, SERVICE, plain
from headgate.protocols.oip.model_config import model_config
from headgate.protocols.oip.settings import log_settings, trace_settings
from headgate.protocols.oip.statistics import statistics
from headgate.tensors import Buffer

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
]
"""What the metadata of the server names."""


class Extensions:
    """The operations. Those who mix it in say how a question is read and an answer written."""

    @abstractmethod
    def _asked(self, request: Request, message: Any) -> Mapping[str, Any]:
        """Return the fields of the question, by the names they have in its message."""

    @abstractmethod
    def _answer(self, name: str, fields: Mapping[str, Any]) -> Reply:
        """Write the message ``inference.<name>``."""

    @abstractmethod
    def _settings(self, name: str, settings: Mapping[str, Any]) -> Reply:
        """Write settings by name; a value is a text, a truth value, a number or a list of texts."""

    def model_config(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """What a deployment is, in the words of Triton's configuration."""
        return self._answer("ModelConfigResponse", model_config(catalogue, self._asked(request, message)))

    def statistics(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """What was inferred, and how long it took."""
        return self._answer("ModelStatisticsResponse", statistics(catalogue, self._asked(request, message)))

    def index(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """What is served, and how it is."""
        return self._answer("RepositoryIndexResponse", repository.index(catalogue, self._asked(request, message)))

    def load(self, request: Request, catalogue: Catalogue, message: Any) -> Later:
        """Deploy a registered model, and answer when it serves."""
        return repository.load(catalogue, self._asked(request, message), self._answer("RepositoryModelLoadResponse", {}))

    def unload(self, request: Request, catalogue: Catalogue, message: Any) -> Later:
        """End a deployment."""
        return repository.unload(catalogue, self._asked(request, message), self._answer("RepositoryModelUnloadResponse", {}))

    def trace(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """How requests are traced: not at all."""
        asked = self._asked(request, message)
        return self._settings("TraceSettingResponse", trace_settings(catalogue, asked, asked["settings"]))

    def logging(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """What is logged."""
        asked = self._asked(request, message)
        return self._settings("LogSettingsResponse", log_settings(catalogue, asked, asked["settings"]))

    def shared_memory(self, request: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Raises `Unsupported`: tensors come with their request."""
        raise Unsupported("Client shared memory is disabled: this server does not offer it; send tensors in the request instead")


def _shared_memory_routes(kind: str) -> tuple[Route, ...]:
    prefix = f"/v2/{kind}sharedmemory"
    return (
        Route("GET", f"{prefix}/status", "shared_memory"),
        Route("GET", f"{prefix}/region/{{name}}/status", "shared_memory"),
        Route("POST", f"{prefix}/region/{{name}}/register", "shared_memory"),
        Route("POST", f"{prefix}/region/{{name}}/unregister", "shared_memory"),
        Route("POST", f"{prefix}/unregister", "shared_memory"),
    )


class OIPExtensions(Extensions, Protocol):
    """``/v2``, as far as Triton has added to it."""

    name: ClassVar[str] = "oip_http_extensions"
    routes: ClassVar[Sequence[Route]] = (
        Route("GET", "/v2/models/{model}/config", "model_config"),
        Route("GET", "/v2/models/{model}/versions/{version}/config", "model_config"),
        Route("GET", "/v2/models/stats", "statistics"),
        Route("GET", "/v2/models/{model}/stats", "statistics"),
        Route("GET", "/v2/models/{model}/versions/{version}/stats", "statistics"),
        Route("POST", "/v2/repository/index", "index"),
        Route("POST", "/v2/repository/{repository_name}/index", "index"),
        Route("POST", "/v2/repository/models/{model}/load", "load", "admin"),
        Route("POST", "/v2/repository/models/{model}/unload", "unload", "admin"),
        Route("POST", "/v2/repository/{repository_name}/models/{model}/load", "load", "admin"),
        Route("POST", "/v2/repository/{repository_name}/models/{model}/unload", "unload", "admin"),
        Route("GET", "/v2/trace/setting", "trace"),
        Route("POST", "/v2/trace/setting", "trace"),
        Route("GET", "/v2/models/{model}/trace/setting", "trace"),
        Route("POST", "/v2/models/{model}/trace/setting", "trace"),
        Route("GET", "/v2/logging", "logging"),
        Route("POST", "/v2/logging", "logging"),
        *_shared_memory_routes("system"),
        *_shared_memory_routes("cuda"),
    )

    def parse(self, request: Request, body: Buffer) -> Any:
        """Return the JSON object that the body is; an empty one where there is none. Raises `InvalidRequest`."""
        if not body:
            return {}
        check_depth(body)
        fields = parse_json(body)
        if not isinstance(fields, dict):
            raise InvalidRequest(f"expected a JSON object, got {type(fields).__name__}")
        return fields

    def _asked(self, request: Request, message: Any) -> Mapping[str, Any]:
        params = request.params
        model = params.get("model")
        named = {"name": model, "model_name": model, "version": params.get("version"), "settings": message}
        return {**message, **named, "repository_name": params.get("repository_name")}

    def _answer(self, name: str, fields: Mapping[str, Any]) -> Reply:
        written = plain(MESSAGES.message(f"inference.{name}")(**fields))
        if not written:
            return Reply(b"")
        if "config" in written:
            return _json(written["config"])
        if "models" in written:
            return _json([{key: value for key, value in entry.items() if value} for entry in written["models"]])
        return _json(written)

    def _settings(self, name: str, settings: Mapping[str, Any]) -> Reply:
        return _json(settings)

    def decode(self, request: Request, message: Any, plan: Plan) -> InferRequest:
        """Never called: no route infers."""
        raise Unsupported("none of these paths takes requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called: no route infers."""
        raise Unsupported("none of these paths takes requests to infer")


def _route(method: str, operation: str, scope: str = "infer") -> Route:
    return Route("POST", f"/{SERVICE}/{method}", operation, scope, "grpc")


class OIPGrpcExtensions(Extensions, GrpcProtocol):
    """The methods of ``inference.GRPCInferenceService`` that are Triton's."""

    name: ClassVar[str] = "oip_grpc_extensions"
    messages = MESSAGES
    service = SERVICE
    routes: ClassVar[Sequence[Route]] = (
        _route("ModelConfig", "model_config"),
        _route("ModelStatistics", "statistics"),
        _route("RepositoryIndex", "index"),
        _route("RepositoryModelLoad", "load", "admin"),
        _route("RepositoryModelUnload", "unload", "admin"),
        _route("TraceSetting", "trace"),
        _route("LogSettings", "logging"),
        *(
            _route(f"{kind}SharedMemory{what}", "shared_memory")
            for kind in ("System", "Cuda")
            for what in ("Status", "Register", "Unregister")
        ),
    )

    def _asked(self, request: Request, message: Any) -> Mapping[str, Any]:
        asked = plain(message)
        # Of the choices of a parameter, one is there.
        asked["parameters"] = {key: next(iter(value.values()), None) for key, value in asked.get("parameters", {}).items()}
        return asked

    def _answer(self, name: str, fields: Mapping[str, Any]) -> Reply:
        return self.write(f"inference.{name}", **fields)

    def _settings(self, name: str, settings: Mapping[str, Any]) -> Reply:
        wrap = _texts if name.startswith("Trace") else _typed
        return self.write(f"inference.{name}", settings={key: wrap(value) for key, value in settings.items()})


def _texts(value: Any) -> dict[str, Any]:
    """A setting of traces: every one is a list of texts."""
    return {"value": value if isinstance(value, list) else [value]}


def _typed(value: Any) -> dict[str, Any]:
    """A setting of the log."""
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    return {kinds[type(value)]: value}


def _json(value: object) -> Reply:
    return Reply(msgspec.json.encode(value))
