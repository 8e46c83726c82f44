"""What a protocol is: its routes, how it reads and writes, and what it may know of the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol as Interface

import msgspec

from headgate.errors import HeadgateError, MethodNotAllowed
from headgate.protocols.base.exchange import InferRequest, InferResponse
from headgate.protocols.base.plan import Plan
from headgate.tensors import Buffer


class Reply(msgspec.Struct, gc=False):
    """What goes back over HTTP."""

    body: Buffer
    content_type: bytes = b"application/json"
    status: int = 200
    headers: bytes = b""
    """Further header lines, each ending in CRLF."""


class Route(NamedTuple):
    """One path of a protocol."""

    method: str
    """``*``: any."""
    path: str
    """With ``{model}``, ``{version}``, ...: one segment each, percent-decoded, of which a fixed end may be split off
    (``{model}:predict``); ``{version#}`` fits digits only; ``{rest*}`` at the end stands for all segments that are left, and is tried
    last."""
    operation: str
    """``infer``, or the name of the method of the protocol that answers."""
    scope: str = "infer"
    """Scope a key needs; ``open``: none, even where keys are required."""
    transport: str = "http"
    """``http``, over HTTP/1.1 or HTTP/2; ``grpc``: a gRPC method, its path ``/package.Service/Method``."""
    dialect: str = ""
    """Which deployments it is for, by the dialect of their ``/v1`` paths (`headgate.routes.DeploymentRoute.v1`); empty: all."""
    streaming: bool = False
    """gRPC: a stream of requests, each of which is answered as one alone would be."""
    watching: bool = False
    """gRPC: one request, answered at once and again whenever the answer has changed, until the client goes."""


class Request(Interface):
    """What a protocol sees of an HTTP request."""

    @property
    def method(self) -> str:
        """``POST``."""
        ...

    @property
    def path(self) -> str:
        """As sent, not decoded, without the query."""
        ...

    @property
    def query(self) -> str:
        """What follows the question mark."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        ...

    @property
    def params(self) -> Mapping[str, str]:
        """The path's variables, percent-decoded."""
        ...


class DeploymentView(Interface):
    """What a protocol may know of one deployment."""

    @property
    def name(self) -> str:
        """What clients call it."""
        ...

    @property
    def ready(self) -> bool:
        """Whether any request would be computed now."""
        ...

    @property
    def dialect(self) -> str:
        """Of its ``/v1`` paths: ``tfserving``, ``kserve`` or ``truss``."""
        ...

    def versions(self) -> list[int]:
        """Registry versions that can be asked for by number, ascending."""
        ...

    def number(self, version: str | None) -> int:
        """Which registry version a version or alias is, or what an unpinned request would get. Raises `NotFound` or `NotReady`."""
        ...

    def plan(self, version: str | None) -> Plan:
        """The plan of a version, or of what an unpinned request would get. Raises `NotFound` or `NotReady`."""
        ...

    def version_ready(self, version: str | None) -> bool:
        """Whether a request for it would be computed now. Raises `NotFound`."""
        ...

    def example(self) -> Any:
        """The package's input example as parsed JSON, or None."""
        ...

    def platform(self, version: str | None) -> str:
        """``onnx``, ``sklearn``, ... Raises `NotFound`."""
        ...


class Catalogue(Interface):
    """What a protocol may know of the server."""

    @property
    def ready(self) -> bool:
        """Whether everything that should serve would compute a request now."""
        ...

    def deployment(self, name: str | None, version: str | None = None) -> DeploymentView:
        """Return a deployment; None means the default one, or the only one. Raises `UnknownModel`, `InvalidRequest`.

        ``version`` is what the request names beside it: an `UnknownModel` tells it on.
        """
        ...

    def deployments(self) -> Iterable[DeploymentView]:
        """All of them, by name."""
        ...

    def metrics(self) -> str:
        """The Prometheus exposition."""
        ...


class Protocol(ABC):
    """One wire format. One instance serves all connections; it keeps no state of a request."""

    name: ClassVar[str]
    """As in metrics: ``oip_http``."""
    routes: ClassVar[Sequence[Route]]

    def parse(self, request: Request, body: Buffer) -> Any:
        """Return the body as `address`, `decode` and the operations take it: as it came, unless a protocol says otherwise."""
        return body

    def address(self, request: Request, message: Any) -> Address:
        """Say which deployment a request is for, where its path does not. Raises `InvalidRequest`."""
        return Address(None, None)

    @abstractmethod
    def decode(self, request: Request, message: Any, plan: Plan) -> InferRequest:
        """Read a request to infer. Raises `InvalidRequest` naming the field, what was expected and what came."""

    @abstractmethod
    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer. Raises `InvalidRequest` if the client asked for a form it cannot have."""

    def worded(self, error: HeadgateError) -> HeadgateError:
        """Return an error as this protocol puts it, for clients that look for its words, whatever carries them."""
        return error

    def encode_error(self, error: HeadgateError) -> Reply:
        """Write an error."""
        return error_reply(self.worded(error))


class Address(NamedTuple):
    """Which deployment, and which version or alias of it, a request names."""

    model: str | None
    """None: the default deployment."""
    version: str | None
    """None: as the split decides."""


Answer = Callable[[Request, Catalogue, Any], Reply]
"""Signature of the methods that `Route.operation` names, ``infer`` excepted; the last argument is what `Protocol.parse` returned."""


def error_reply(error: HeadgateError) -> Reply:
    """``{"error": text, "code": word}`` with the error's status, as the Open Inference Protocol wants it."""
    text = str(error)
    if len(text) > 1000:
        text = text[:1000] + " ..."
    headers = b"" if error.retry_after is None else b"retry-after: %d\r\n" % max(1, round(error.retry_after))
    if isinstance(error, MethodNotAllowed):
        headers += b"allow: %b\r\n" % error.allow.encode()
    return Reply(msgspec.json.encode({"error": text, "code": error.code}), status=error.status, headers=headers)


CONTRACT = Protocol
