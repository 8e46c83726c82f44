"""What a gRPC service is: a protocol whose messages are protocol buffers.

The wire (HTTP/2, message frames, compression, deadlines, status and trailers) is the gateway's; a service parses, decodes and
encodes messages. Message classes live in a descriptor pool of their own, never in the process-wide one: two libraries that both
register ``inference.ModelInferRequest`` there cannot be imported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from typing import Any, ClassVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError

from headgate import plugins
from headgate.errors import HeadgateError, InvalidRequest, Unsupported
from headgate.protocols.base.contract import Protocol, Reply, Request
from headgate.protocols.base.exchange import InferRequest, InferResponse
from headgate.protocols.base.plan import Plan
from headgate.protocols.base.unfolding import check_unfolding, outline
from headgate.tensors import Buffer


class Messages:
    """The message classes of a set of ``.proto`` files, in a descriptor pool of their own."""

    def __init__(self, package: str, file: str) -> None:
        """Load ``file``, a serialized ``FileDescriptorSet`` (``make protos`` compiles it), from beside the module ``package``."""
        data = resources.files(package).joinpath(file).read_bytes()
        self.files = descriptor_pb2.FileDescriptorSet.FromString(data).file
        self._pool = descriptor_pool.DescriptorPool()
        for entry in self.files:
            self._pool.Add(entry)

    def message(self, name: str) -> Any:
        """Return the class of the message with the full name ``name`` (``inference.ModelInferRequest``)."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))

    def file_of(self, symbol: str) -> str | None:
        """Return the name of the file that declares ``symbol`` (a service, method, message, field, ...), or None."""
        with suppress(KeyError):
            return str(self._pool.FindFileContainingSymbol(symbol).name)
        with suppress(KeyError):  # methods are no symbols to it
            return str(self._pool.FindMethodByName(symbol).containing_service.file.name)
        return None

    def service(self, name: str) -> ServiceDescriptor:
        """Return the description of the service with the full name ``name``."""
        return self._pool.FindServiceByName(name)


class GrpcProtocol(Protocol):
    """One gRPC service."""

    messages: ClassVar[Messages]
    service: ClassVar[str]
    """Full name: ``inference.GRPCInferenceService``."""

    def __init__(self) -> None:
        self._inputs: Mapping[str, Any] = {
            f"/{self.service}/{method.name}": self.messages.message(method.input_type.full_name)
            for method in self.messages.service(self.service).methods
        }
        self._outlines = {path: outline(message.DESCRIPTOR) for path, message in self._inputs.items()}

    def parse(self, request: Request, body: Buffer) -> Any:
        """Return the message. Raises `InvalidRequest` if the bytes are none, `PayloadTooLarge` if they would unfold too far."""
        try:
            check_unfolding(body, self._outlines[request.path])
            return self._inputs[request.path].FromString(body)
        except (DecodeError, ValueError) as error:
            raise InvalidRequest(f"{request.path}: the message cannot be parsed: {error}") from None

    def decode(self, request: Request, message: Any, plan: Plan) -> InferRequest:
        """Never called where no route infers; where one does, see `Protocol.decode`."""
        raise Unsupported(f"{self.service} takes no requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called where no route infers; where one does, see `Protocol.encode`."""
        raise Unsupported(f"{self.service} takes no requests to infer")

    def write(self, message: str, **fields: Any) -> Reply:
        """Return the message with the full name ``message`` and these fields as an answer."""
        return Reply(self.messages.message(message)(**fields).SerializeToString())

    def encode_streamed(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one answer on a stream of answers."""
        raise NotImplementedError

    def encode_streamed_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one part of an answer on a stream of answers."""
        raise NotImplementedError

    def encode_streamed_end(self, message: Any, request: InferRequest, response: InferResponse) -> bytes | None:
        """Write what follows the last part of the answer to ``message``; ``response`` has no outputs. None: nothing does."""
        raise NotImplementedError

    def encode_streamed_error(self, message: Any, error: HeadgateError) -> bytes | None:
        """Write an error as one answer on the stream, which goes on; None: the stream ends with the error as its status."""
        return None


def services() -> dict[str, type[GrpcProtocol]]:
    """Return the class of every gRPC service on the shelf, by the service's full name, sorted."""
    found = (kind for _, kind in plugins.load_all("headgate.protocols") if issubclass(kind, GrpcProtocol))
    return {kind.service: kind for kind in sorted(found, key=lambda kind: kind.service)}
