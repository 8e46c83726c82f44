"""Fetching from a tracking server that answers in every way a server may: a small one in its place."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headgate.errors import (
    HeadgateError,
    InvalidRequest,
    NotFound,
    PackageError,
    PermissionDenied,
    ServerUnreachable,
    Unauthenticated,
)
from headgate.package.folders.mlflow.tracking import fetch

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
Answers = dict[str, Any]
PLACE = "mlflow-artifacts:/0/models/m-1/artifacts"
VERSION = {f"{API}/model-versions/get-download-uri": {"artifact_uri": PLACE}}
GOOD: Answers = {
    **VERSION,
    f"{ARTIFACTS}?0/models/m-1/artifacts": {
        "files": [{"path": "MLmodel", "is_dir": False}, {"path": "0/models/m-1/artifacts/data", "is_dir": True}]
    },
    f"{ARTIFACTS}?0/models/m-1/artifacts/data": {"files": [{"path": "data/a b.bin", "is_dir": False}]},
    f"{ARTIFACTS}/0/models/m-1/artifacts/MLmodel": b"flavors: {}",
    f"{ARTIFACTS}/0/models/m-1/artifacts/data/a%20b.bin": b"\x00" * 100_000,
}


class Tracking:
    """The server: what it answers by path (listings by ``path?folder``), and what it was asked with."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.headers: list[dict[str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.headers.append(dict(self.headers))
                parts = urlsplit(self.path)
                folder = parse_qs(parts.query).get("path")
                found = outer.answers.get(
                    f"{parts.path}?{folder[0]}" if folder else parts.path, (404, {"message": "no such thing"})
                )
                status, body = found if isinstance(found, tuple) else (200, found)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    """A server, which the variable names."""
    for name in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    server = Tracking()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server.uri}/")
    yield server
    server.close()


def test_files_and_folders_are_fetched(tracking: Tracking, tmp_path: Path) -> None:
    """As they are on the server, whether it lists them by name or by path; the name and the note say what was asked for."""
    tracking.answers = GOOD
    fetched = fetch("models:/my%20wine/3", tmp_path)
    assert (fetched.name, fetched.note, fetched.path) == ("my-wine", "models:/my wine/3", tmp_path)
    assert {path.relative_to(tmp_path).as_posix(): path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()} == {
        "MLmodel": 11,
        "data/a b.bin": 100_000,
    }


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({"TOKEN": "abc"}, "Bearer abc"),
        ({"USERNAME": "me", "PASSWORD": "secret"}, f"Basic {base64.b64encode(b'me:secret').decode()}"),
    ],
)
def test_credentials_are_those_of_mlflows_client(
    variables: dict[str, str], header: str, tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variables, on every request."""
    tracking.answers = GOOD
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    fetch("models:/wine/1", tmp_path)
    assert {headers.get("Authorization", headers.get("authorization")) for headers in tracking.headers} == {header}


def test_a_registry_of_its_own(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the registry is another server it is asked for the version, and the tracking server for the files."""
    registry = Tracking()
    try:
        registry.answers = {**VERSION, f"{API}/registered-models/alias": {"model_version": {"version": "7"}}}
        tracking.answers = {path: answer for path, answer in GOOD.items() if path not in VERSION}
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry.uri)
        assert fetch("models:/wine@best", tmp_path).note == "models:/wine/7 (@best)"
        assert len(registry.headers) == 2
    finally:
        registry.close()


def test_artifacts_on_this_machine_are_copied(tracking: Tracking, tmp_path: Path) -> None:
    """Of a server that keeps them on the disk it shares with us."""
    (tmp_path / "store" / "model").mkdir(parents=True)
    (tmp_path / "store" / "model" / "MLmodel").write_text("flavors: {}")
    tracking.answers = {f"{API}/runs/get": {"run": {"info": {"artifact_uri": f"file://{tmp_path}/store"}}}}
    (tmp_path / "into").mkdir()
    assert fetch("runs:/abc/model", tmp_path / "into").name == "model"
    assert (tmp_path / "into" / "MLmodel").is_file()


def listing(*names: str) -> Answers:
    """A model whose folder holds files of those names."""
    files = [{"path": name, "is_dir": False} for name in names]
    return {**GOOD, f"{ARTIFACTS}?0/models/m-1/artifacts": {"files": files}}


@pytest.mark.parametrize(
    ("answers", "kind", "said"),
    [
        ({**GOOD, f"{API}/model-versions/get-download-uri": (401, b"<html>")}, Unauthenticated, "Set MLFLOW_TRACKING_USERNAME"),
        ({**GOOD, f"{API}/model-versions/get-download-uri": (403, {"message": "not yours"})}, PermissionDenied, "not yours"),
        ({}, NotFound, "no such thing; nothing was registered"),
        ({**GOOD, f"{API}/model-versions/get-download-uri": (503, b"busy")}, ServerUnreachable, "it answered 503"),
        ({**GOOD, f"{API}/model-versions/get-download-uri": b"<html>"}, ServerUnreachable, "no MLflow tracking server answers"),
        ({**GOOD, f"{API}/model-versions/get-download-uri": []}, ServerUnreachable, "something else than a JSON object"),
        (
            {f"{API}/model-versions/get-download-uri": {"artifact_uri": "s3://bucket/m"}},
            PackageError,
            "s3://bucket/m: the tracking server does not pass on.*--serve-artifacts",
        ),
        ({**GOOD, f"{ARTIFACTS}?0/models/m-1/artifacts": {"files": [{}]}}, PackageError, "does not answer as MLflow does"),
        (listing("a.bin"), NotFound, "no such thing"),
        (listing(), NotFound, "there is no MLmodel in mlflow-artifacts:/0"),
        (listing(".."), PackageError, "expected a relative path of plain names"),
        (listing("x/.."), PackageError, "expected a relative path of plain names"),
        (listing("a\x00b"), PackageError, "expected a relative path of plain names"),
        (listing("MLmodel", "MLMODEL"), PackageError, "are the same file on some systems"),
    ],
)
def test_a_server_that_answers_otherwise(
    answers: Answers, kind: type[HeadgateError], said: str, tracking: Tracking, tmp_path: Path
) -> None:
    """Each is an error of its own that names the server, and nothing is written outside the folder."""
    tracking.answers = answers
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(kind, match=said):
        fetch("models:/wine/1", into)
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("models:/wine/Production", "stages have been replaced by aliases.*models:/wine@production"),
        ("models:/wine/1/2", "expected models:/name@alias, models:/name/3 or runs:/id/path"),
        ("runs:/abc", "expected models:/name@alias"),
        ("models:/@x", "expected models:/name@alias"),
    ],
)
def test_an_address_that_makes_no_sense(address: str, said: str, tracking: Tracking, tmp_path: Path) -> None:
    """Is refused without a question to the server."""
    with pytest.raises(InvalidRequest, match=said):
        fetch(address, tmp_path)
    assert tracking.headers == []


def test_a_model_without_versions(tracking: Tracking, tmp_path: Path) -> None:
    """``latest`` of a name that nobody has registered."""
    tracking.answers = {f"{API}/model-versions/search": {}}
    with pytest.raises(NotFound, match=r"models:/wine: .* has no model 'wine'"):
        fetch("models:/wine", tmp_path)


def test_a_server_that_is_not_there(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the address and the variable."""
    tracking.close()
    with pytest.raises(ServerUnreachable, match=f"{tracking.uri}: no MLflow tracking server answers there.*MLFLOW_TRACKING_URI"):
        fetch("models:/wine/1", tmp_path)
