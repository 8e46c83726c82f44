"""Point 72 of the Open Inference Protocol checklist: gRPC's health protocol and reflection, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from unwired import OneModel, ask

from headgate.errors import NotFound
from headgate.protocols.base.grpc import GrpcProtocol, services
from headgate.protocols.grpc_health import Health
from headgate.protocols.grpc_reflection import Reflection, ReflectionAlpha

HEALTH = "/grpc.health.v1.Health/"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
INFERENCE = "inference.GRPCInferenceService"


def health(method: str, service: str = "", ready: bool = True) -> Any:
    """Return what a method of the health service says of ``service``."""
    protocol, catalogue = Health(), OneModel()
    catalogue.ready = ready
    kind = "HealthListRequest" if method == "List" else "HealthCheckRequest"
    fields = {} if method == "List" else {"service": service}
    return ask(protocol, HEALTH + method, protocol.messages.message(f"grpc.health.v1.{kind}")(**fields), catalogue)


def reflect(protocol: GrpcProtocol, **asked: Any) -> Any:
    """Return the answer to one question."""
    package = protocol.service.rpartition(".")[0]
    message = protocol.messages.message(f"{package}.ServerReflectionRequest")(host="here", **asked)
    answer = ask(protocol, f"/{protocol.service}/ServerReflectionInfo", message)
    assert answer.original_request == message and answer.valid_host == "here"
    return answer


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_p72_health_follows_readiness(method: str) -> None:
    """The server, and each of its services, serve while the server is ready."""
    for service in ("", INFERENCE, "grpc.health.v1.Health"):
        assert health(method, service).status == SERVING
        assert health(method, service, ready=False).status == NOT_SERVING


def test_p72_a_service_that_is_not_there() -> None:
    """Check fails with NOT_FOUND and names what is there; Watch says so and waits for it to come."""
    with pytest.raises(NotFound, match=INFERENCE):
        health("Check", "nobody")
    assert health("Watch", "nobody").status == SERVICE_UNKNOWN
    assert NotFound.grpc == 5


def test_p72_list_names_every_service() -> None:
    """The whole server under the empty name, and all services; no deployment, since no key is needed."""
    statuses = {name: entry.status for name, entry in health("List").statuses.items()}
    assert statuses == dict.fromkeys(["", *services()], SERVING)


def test_p72_health_needs_no_key_and_watch_goes_on() -> None:
    """Probes have no keys; the answer of Watch is sent again whenever it changes, the others once."""
    assert {route.scope for route in Health.routes} == {"open"}
    assert [route.path for route in Health.routes if route.watching] == [HEALTH + "Watch"]


@pytest.mark.parametrize("kind", [Reflection, ReflectionAlpha])
def test_p72_reflection_describes_every_service(kind: type[GrpcProtocol]) -> None:
    """From what it says, a client that knows nothing builds every service there is, reflection itself too."""
    protocol = kind()
    names = [service.name for service in reflect(protocol, list_services="").list_services_response.service]
    assert {INFERENCE, "grpc.health.v1.Health", Reflection.service, ReflectionAlpha.service} <= set(names) == set(services())
    pool = descriptor_pool.DescriptorPool()
    for name in names:
        files = reflect(protocol, file_containing_symbol=name).file_descriptor_response.file_descriptor_proto
        for data in reversed(files):
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    for name in names:
        assert [method.name for method in pool.FindServiceByName(name).methods] == [
            method.name for method in services()[name].messages.service(name).methods
        ]


@pytest.mark.parametrize(
    "symbol",
    [
        "inference.GRPCInferenceService.ModelInfer",
        "inference.ModelInferRequest",
        "inference.ModelInferRequest.InferInputTensor",
        "inference.ModelInferRequest.raw_input_contents",
    ],
)
def test_p72_symbols_of_every_kind_are_found(symbol: str) -> None:
    """A method, a message, a message inside one, a field: the file that declares it comes first, what it imports after it."""
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data).name
        for data in reflect(Reflection(), file_containing_symbol=symbol).file_descriptor_response.file_descriptor_proto
    ]
    assert files == ["oip/inference.proto", "oip/model_config.proto"]


def test_p72_files_are_found_by_name() -> None:
    """With what they import, once each."""
    files = reflect(Reflection(), file_by_filename="oip/model_config.proto").file_descriptor_response.file_descriptor_proto
    assert [descriptor_pb2.FileDescriptorProto.FromString(data).name for data in files] == ["oip/model_config.proto"]


def test_p72_no_message_has_extensions() -> None:
    """A message that exists has none; that is an answer, not an error."""
    asked = "inference.ModelInferRequest"
    numbers = reflect(Reflection(), all_extension_numbers_of_type=asked).all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == (asked, [])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"file_by_filename": "nothing.proto"}, 5),
        ({"file_containing_symbol": "inference.Nothing"}, 5),
        ({"file_containing_symbol": ""}, 5),
        ({"all_extension_numbers_of_type": "inference.Nothing"}, 5),
        ({"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 1}}, 5),
        ({}, 3),
    ],
)
def test_p72_questions_without_an_answer(asked: dict[str, Any], code: int) -> None:
    """The error is in the answer with its code and a sentence; the stream goes on."""
    error = reflect(Reflection(), **asked).error_response
    assert error.error_code == code
    assert error.error_message
