"""Server reflection of gRPC: what services there are, and the descriptors of their messages, for ``grpcurl`` and its like.

Source: github.com/grpc/grpc/blob/master/doc/server-reflection.md, in both of its versions, which differ by their name only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from headgate.errors import HeadgateError, InvalidRequest, NotFound
from headgate.protocols.base import Catalogue, Reply, Request, Route
from headgate.protocols.base.grpc import GrpcProtocol, Messages, services

_MESSAGES = Messages("headgate.protocols.grpc_reflection", "messages.binpb")


def _routes(service: str) -> tuple[Route, ...]:
    return (Route("POST", f"/{service}/ServerReflectionInfo", "answer", "infer", "grpc", streaming=True),)


class _Reflection(GrpcProtocol):
    """One question after the other; one without an answer is an error in the answer, and the stream goes on."""

    messages = _MESSAGES

    def __init__(self) -> None:
        super().__init__()
        self._package = self.service.rpartition(".")[0]

    def answer(self, _: Request, catalogue: Catalogue, message: Any) -> Reply:
        """Answer one question."""
        answer = self.messages.message(f"{self._package}.ServerReflectionResponse")(
            valid_host=message.host, original_request=message
        )
        try:
            self._fill(answer, message)
        except HeadgateError as error:
            answer.error_response.error_code = error.grpc
            answer.error_response.error_message = str(error)
        return Reply(answer.SerializeToString())

    def _fill(self, answer: Any, message: Any) -> None:
        asked = message.WhichOneof("message_request")
        if asked == "list_services":
            for name in services():
                answer.list_services_response.service.add(name=name)
        elif asked == "file_by_filename":
            answer.file_descriptor_response.file_descriptor_proto.extend(self._with_imports(message.file_by_filename))
        elif asked == "file_containing_symbol":
            name = self._declares(message.file_containing_symbol)
            answer.file_descriptor_response.file_descriptor_proto.extend(self._with_imports(name))
        elif asked == "all_extension_numbers_of_type":
            self._declares(message.all_extension_numbers_of_type)
            answer.all_extension_numbers_response.base_type_name = message.all_extension_numbers_of_type
        elif asked == "file_containing_extension":
            raise NotFound(f"no message here has extensions, '{message.file_containing_extension.containing_type[:200]}' neither")
        else:
            raise InvalidRequest("message_request: nothing is asked; set one of its fields, for example list_services")

    @cached_property
    def _files(self) -> dict[str, tuple[bytes, Sequence[str]]]:
        """Every file of every service: its bytes, and the names of those it imports."""
        return {
            file.name: (file.SerializeToString(), tuple(file.dependency))
            for kind in services().values()
            for file in kind.messages.files
        }

    def _declares(self, symbol: str) -> str:
        for kind in services().values():
            name = kind.messages.file_of(symbol)
            if name is not None:
                return name
        raise NotFound(f"nothing here is called '{symbol[:200]}'; list_services names the services")

    def _with_imports(self, name: str) -> list[bytes]:
        if name not in self._files:
            raise NotFound(f"there is no file '{name[:200]}' here; here are {sorted(self._files)}")
        names = [name]
        for found in names:  # grows while it is walked
            names += [needed for needed in self._files[found][1] if needed not in names]
        return [self._files[found][0] for found in names]


class Reflection(_Reflection):
    """``grpc.reflection.v1``."""

    name: ClassVar[str] = "grpc_reflection"
    service = "grpc.reflection.v1.ServerReflection"
    routes: ClassVar[Sequence[Route]] = _routes(service)


class ReflectionAlpha(_Reflection):
    """``grpc.reflection.v1alpha``: what most tools ask first."""

    name: ClassVar[str] = "grpc_reflection_alpha"
    service = "grpc.reflection.v1alpha.ServerReflection"
    routes: ClassVar[Sequence[Route]] = _routes(service)
