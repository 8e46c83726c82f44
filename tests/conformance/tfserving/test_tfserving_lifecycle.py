"""Points 56 to 60 of the TensorFlow Serving checklist: versions come and go.

Deliberately otherwise here: versions come from the registry and a deploy, not from a folder that is watched or a configuration file
that is read again. What clients see of it is the same.
"""

from __future__ import annotations

import threading

import pytest
from serving import Server
from tfserving_client import Client, text_of
from tfserving_unwired import MODEL, ask, catalogue, message, spec

from headgate.errors import InvalidRequest


def test_p56_several_versions_are_there_at_once(served: Server, client: Client) -> None:
    """Each can be asked by its number; without one, the one that serves the traffic answers, which need not be the highest."""
    states = served.get("/v1/models/two").json["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("1", "AVAILABLE"), ("2", "AVAILABLE")]
    for version in (1, 2):
        assert client.ask("two", {"instances": [[0]]}, place=f"/versions/{version}") == {"predictions": [[version]]}


def test_p57_a_version_is_available_before_it_gets_traffic() -> None:
    """One without a replica is LOADING and is told apart from one that would answer. (Deploys under load are tested as a whole.)"""
    request = message("GetModelStatusRequest", model_spec=spec())
    found = ask(f"{MODEL}GetModelStatus", request, catalogue()).model_version_status
    assert [(state.version, state.state) for state in found] == [(1, 20), (2, 30)]


def test_p58_a_label_of_a_version_that_is_not_served_is_none(served: Server, client: Client) -> None:
    """An alias may be on any version of the registry; as a label it is known where that version is served."""
    said = "Unrecognized servable version label: gone"
    assert client.refused("two", {"instances": [[0]]}, place="/labels/gone").startswith(said)
    assert text_of(served.get("/v1/models/two/labels/gone"), 400).startswith(said)
    with pytest.raises(InvalidRequest, match=said):
        ask(f"{MODEL}GetModelStatus", message("GetModelStatusRequest", model_spec=spec(label="gone")), catalogue())


def test_p59_no_file_is_read_again(served: Server) -> None:
    """There is no configuration file to poll; a list can be sent over gRPC: see point 52. No path below /v1 administers anything."""
    for verb in ("POST", "PUT", "DELETE", "PATCH"):
        assert text_of(served.request(verb, "/v1/models/half", b"{}"), 400).startswith("Malformed request")


def test_p60_requests_are_counted(served: Server, client: Client) -> None:
    """The metrics have names of Headgate's own and stand at /metrics, not at /monitoring/prometheus/metrics."""
    series = {"deployment": "half", "protocol": "tfserving_http", "status": "200"}
    before = served.metric("headgate_requests_total", **series)
    threads = [threading.Thread(target=client.ask, args=("half", {"instances": [1.0]})) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.metric("headgate_requests_total", **series) == before + 5
    assert served.get("/monitoring/prometheus/metrics").status == 404
