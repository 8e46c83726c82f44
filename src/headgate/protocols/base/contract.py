"""What a protocol is: its routes, how it reads and writes, and what it may know of the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol as Interface

import msgspec

from headgate.errors import HeadgateError, MethodNotAllowed, Unsupported
from headgate.journal import WishedModel, WishKind
from headgate.protocols.base.exchange import InferRequest, InferResponse
from headgate.protocols.base.plan import Plan
from headgate.protocols.base.statistics import Statistics, VersionState
from headgate.routes import RevisionRoute
from headgate.tensors import Buffer


class Reply(msgspec.Struct, gc=False):
    """What goes back over HTTP."""

    body: Buffer
    content_type: bytes = b"application/json"
    status: int = 200
    headers: bytes = b""
    """Further header lines, each ending in CRLF."""


class Later:
    """The answer of an operation that is not there yet. It is given once, to whoever has asked, if he still waits."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.sink: Any = None
        """The exchange, once the operation has returned."""

    def settle(self, error: HeadgateError | None = None) -> None:
        """Give the answer, or an error in its place."""
        sink, self.sink = self.sink, None
        if sink is None or sink.gone:
            return
        if error is None:
            sink.reply(self._reply)
        else:
            sink.fail(error)


EVENT_STREAM = b"text/event-stream; charset=utf-8"


def event(data: bytes) -> bytes:
    """Return a server-sent event that carries ``data``, which has no line breaks."""
    return b"data: %b\n\n" % data


class InParts(NamedTuple):
    """The form in which a protocol gives an answer that the model gives in parts."""

    events: bool = False
    """Each part as it comes, as a server-sent event with what `Protocol.encode_part` writes; an error is one, too. Else all parts at the
    end, as `Protocol.encode_parts` writes them."""
    only: str = ""
    """Without events: one part will do, written by `Protocol.encode`, and this is said where their number is another. The model is
    stopped at the second one."""
    media: bytes = b""
    """A Content-Type: each part as it comes, as the bytes that `Protocol.encode_part` writes and nothing around them. An error behind the
    first part has no form there, so the answer is broken off."""


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
    binary: bool = False
    """A body whose Content-Type is ``application/octet-stream`` is read as something else than JSON, so it has the limit of binary ones."""


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

    def served(self, version: str | None) -> RevisionRoute:
        """How a version, or what an unpinned request would get, is served. Raises `NotFound` or `NotReady`."""
        ...

    def states(self) -> Sequence[VersionState]:
        """How each version is that can be asked for, ascending."""
        ...

    def statistics(self) -> Sequence[Statistics]:
        """What was counted of each version that can be asked for, ascending."""
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

    @property
    def loadable(self) -> Sequence[str]:
        """Names of models that are registered and not deployed, where clients may load them."""
        ...

    def check_administration(self) -> None:
        """Raises `NotReady` where clients may not load and unload models."""
        ...

    def wish(self, kind: WishKind, model: str, reply: Reply, models: tuple[WishedModel, ...] = ()) -> Later:
        """Have control load or unload a model, or serve a list of them and no others; ``reply`` goes back once it has.

        Raises `NotReady` where clients may not, or nobody hears, and `Overloaded`.
        """
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

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """Say how the answer to ``infer`` goes out where the model gives it in parts. Raises `Unsupported`: this protocol has no form."""
        raise Unsupported(
            "the model gives its answer in parts, which this protocol has no form for; ask for it at /v2/models/NAME/generate_stream or "
            "/predict/NAME, or by gRPC's ModelStreamInfer"
        )

    def encode_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one part of an answer, for events as one line of JSON, if `in_parts` says so. Raises as `encode` does."""
        raise NotImplementedError

    def encode_parts(self, request: InferRequest, responses: Sequence[InferResponse]) -> Reply:
        """Write all parts of an answer, perhaps none, as one, if `in_parts` says so. Raises as `encode` does."""
        raise NotImplementedError

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


Answer = Callable[[Request, Catalogue, Any], Reply | Later]
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
