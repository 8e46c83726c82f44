"""Which gRPC methods answer without a key, over a real connection: all that there are, as the code lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
import pytest
from serving import Served, Server
from wire_calls import Wire, message

from headgate.protocols.base import Route
from headgate.routes import KeyRoute
from headgate.serving.endpoints import Endpoints

DENIED, UNAUTHENTICATED = 7, 16
METHODS = sorted(
    (endpoint.route for endpoint in Endpoints([], require_key=True).routes() if endpoint.route.transport == "grpc"),
    key=lambda route: route.path,
)
OPEN = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
}
"""Everything that answers without one."""
ADMINISTRATION = {
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
}
"""What takes more than a key for inference."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key for each scope."""
    running = Server(tmp_path_factory.mktemp("guarded"), [Served("sum", "Sum")])
    keys = tuple(
        KeyRoute(id=scope, sha256=hashlib.sha256(f"key-{scope}".encode()).hexdigest(), scopes=frozenset({scope}))
        for scope in ("infer", "feedback", "admin")
    )
    running.apply(msgspec.structs.replace(running.table, keys=keys))
    yield running
    complaints = running.complaints()
    running.stop()
    assert not complaints


def status(server: Server, route: Route, key: str | None) -> int:
    """Call a method with an empty message; return its status, or 0 for one that goes on once it has answered."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with Wire(server) as wire:
        stream_id = wire.begin(route.path, headers)
        wire.send(stream_id, message(b""), end=True)
        if not route.watching:
            return wire.outcome(stream_id).status
        while stream_id not in wire.ended and not wire.bodies[stream_id]:
            wire.step()
        return 0 if wire.bodies[stream_id] else wire.outcome(stream_id).status


@pytest.mark.parametrize("route", METHODS, ids=lambda route: route.path)
def test_every_method_needs_a_key_but_these(guarded: Server, route: Route) -> None:
    """Without a key, and with one that is not known, it is UNAUTHENTICATED; without the scope, PERMISSION_DENIED; else it is answered."""
    refusals = (DENIED, UNAUTHENTICATED)
    found = {key: status(guarded, route, key) for key in (None, "nobody", "key-feedback", "key-infer", "key-admin")}
    if route.path in OPEN:
        assert set(found.values()) == {0}
        return
    assert (found[None], found["nobody"], found["key-feedback"]) == (UNAUTHENTICATED, UNAUTHENTICATED, DENIED)
    assert (found["key-infer"] == DENIED) is (route.path in ADMINISTRATION)
    assert found["key-infer"] != UNAUTHENTICATED and found["key-admin"] not in refusals


def test_the_lists_name_methods_that_are_there() -> None:
    """A method that was renamed must not stand here as if it were guarded, or open, for ever."""
    paths = {route.path for route in METHODS}
    assert paths >= OPEN | ADMINISTRATION
    assert {route.path for route in METHODS if route.scope == "open"} == OPEN
    assert len(METHODS) > 30
