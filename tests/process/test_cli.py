"""The commands against a control API that answers as its documentation says, and against a home on which no server runs."""

import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headgate import errors
from headgate.cli import waiting
from headgate.cli.main import main

SPEC = {
    "name": "fraud",
    "model": "fraud@1",
    "also": [],
    "scale": {"min_replicas": 3, "max_replicas": 3},
    "timeout": 30.0,
    "v1": None,
}


def replica(state: str, reason: str = "") -> dict[str, Any]:
    """One replica."""
    return {"id": "fraud-1.1", "state": state, "pid": 7, "rss": 1, "restarts": 0, "exit": "", "reason": reason}


def deployment(state: str = "ready", revision: str = "fraud-1", reason: str = "", **states: str) -> dict[str, Any]:
    """The status of deployment ``fraud``; ``states`` are those of its revisions ``fraud_1``, ``fraud_2``."""
    revisions = [
        {
            "name": name.replace("_", "-"), "version": int(name[-1]), "digest": "sha256:0", "state": is_,
            "reason": "out of memory" if is_ == "failed" else "",
            "share": 10_000 if is_ == "serving" else 0, "replicas": [replica("ready" if is_ == "serving" else "loading")],
            "queued_rows": 2, "inflight": 0, "requests": 40, "failures": 1,
        }
        for name, is_ in (states or {"fraud_1": "serving"}).items()
    ]  # fmt: skip
    serving = next((entry["name"] for entry in revisions if entry["share"]), None)
    return {
        "name": "fraud", "model": "fraud@1", "spec": SPEC, "generation": 1, "state": state, "reason": reason, "revision": revision,
        "version": int(revision[-1]), "serving": serving, "also": [], "url": "http://127.0.0.1:1/v2/models/fraud",
        "rollout": None, "advice": "", "revisions": revisions,
    }  # fmt: skip


def also(revision: str, state: str, reason: str = "") -> dict[str, Any]:
    """The status of a version that is kept warm."""
    return {"version": int(revision[-1]), "revision": revision, "state": state, "reason": reason}


VERSION = {
    "model": "fraud", "number": 3, "digest": "sha256:abcdef", "source_digest": "sha256:123", "created": 1.7e9, "created_by": "local",
    "note": "more rain", "trusted_by": None, "aliases": ["champion"],
}  # fmt: skip
KEY = {"id": "0a1b2c3d", "name": "ci", "scopes": ["admin"], "created": 1.7e9, "revoked": None}


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Control:
    """A control API that answers what it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.url = ""

    def answer(self, what: str, *answers: tuple[int, Any]) -> None:
        """Answer ``what`` (``GET /status``) with these, one after the other, the last for ever."""
        self.answers[what] = list(answers)

    def requests(self, what: str) -> list[Asked]:
        """What was asked by this method and path."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == what]


class Answering(BaseHTTPRequestHandler):
    """Serves a `Control`."""

    control: Control

    def handle_one(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.control.asked.append(Asked(self.command, self.path, headers, body))
        answers = self.control.answers.get(f"{self.command} {self.path}")
        refusal = (404, {"error": f"nothing at {self.path}", "code": "not_found"})
        status, value = refusal if answers is None else answers.pop(0) if len(answers) > 1 else answers[0]
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Control]:
    """A control API that the commands find by HEADGATE_SERVER, with a key in HEADGATE_API_KEY."""
    here = Control()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Answering,), {"control": here}))
    here.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HEADGATE_SERVER", here.url)
    monkeypatch.setenv("HEADGATE_API_KEY", "hg_secret")
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(waiting, "_POLL", 0.001)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


def test_status_is_one_screen(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Status shows every deployment with version, state, replicas, requests and failures, and the reason where something is wrong."""
    control.answer("GET /status", (200, {"server": {"inference_url": "http://127.0.0.1:1"}, "deployments": [
        deployment("degraded", "fraud-2", "fraud@1 (fraud-1) serves, fraud@2 (fraud-2) failed", fraud_1="serving", fraud_2="failed")
    ]}))  # fmt: skip
    assert main(["status"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "inference http://127.0.0.1:1"
    assert shown[2].split() == ["fraud", "fraud@1", "degraded", "1/2", "80", "2", "4", "http://127.0.0.1:1/v2/models/fraud"]
    assert shown[3] == "fraud: fraud@1 (fraud-1) serves, fraud@2 (fraud-2) failed"
    assert control.asked[0].headers["authorization"] == "Bearer hg_secret"


def test_status_shows_what_is_kept_warm(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that ``also`` names has a line of its own, with its state, its replicas and its URL; the first line is without it."""
    found = deployment("ready", "fraud-3", fraud_1="ready", fraud_2="starting", fraud_3="serving")
    found["revisions"][0]["replicas"] = [replica("ready")]
    control.answer("GET /deployments/fraud", (200, {**found, "also": [also("fraud-1", "ready"), also("fraud-2", "starting")]}))
    assert main(["status", "fraud"]) == 0
    url = "http://127.0.0.1:1/v2/models/fraud"
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["fraud", "fraud@3", "ready", "1/1", "40", "1", "2", url],
        ["fraud", "(also)", "fraud@1", "ready", "1/1", "40", "1", "2", f"{url}/versions/1"],
        ["fraud", "(also)", "fraud@2", "starting", "0/1", "40", "1", "2", f"{url}/versions/2"],
    ]


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["status"], "GET /status", {"server": {}, "deployments": [deployment()]}),
        (["status", "fraud"], "GET /deployments/fraud", deployment()),
        (["models"], "GET /models", [{"name": "fraud", "versions": 3, "aliases": {"champion": 3}, "created": 1.7e9}]),
        (["versions", "fraud"], "GET /models/fraud/versions", [VERSION]),
        (["key", "list"], "GET /keys", [KEY]),
    ],
)
def test_json_is_what_the_control_api_says(
    words: list[str], path: str, value: Any, control: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    """--output json puts the values of the control API on standard output, and nothing else; as text they can be shown, too."""
    control.answer(path, (200, value))
    assert main([*words, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == value
    assert main(words) == 0
    assert "fraud" in capsys.readouterr().out or words[0] == "key"


def test_refusals_end_with_their_exit_code(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """What control refuses is said in its words, and the code of the error decides the exit code."""
    control.answer("GET /status", (401, {"error": "this server wants a key", "code": "unauthenticated"}))
    assert main(["status", "--output", "json"]) == errors.Unauthenticated.exit
    said = capsys.readouterr()
    assert said.err == "headgate: this server wants a key\n"
    assert said.out == ""
    assert main(["versions", "nobody"]) == errors.NotFound.exit


def test_another_server_is_told_as_such(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Where --server is something else than a control API, the message says so."""
    control.answer("GET /status", (200, b"<html>hello</html>"))
    assert main(["status"]) == 1
    assert "did not answer with JSON, so it is no control API; check --server" in capsys.readouterr().err


def test_nobody_at_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that does not answer is said with its URL and what to do, with 8."""
    assert main(["status", "--server", "http://127.0.0.1:1"]) == errors.ServerUnreachable.exit
    assert (
        "no server answers at http://127.0.0.1:1 (Connection refused); start one with 'headgate serve'" in capsys.readouterr().err
    )


def test_deploying_keeps_what_is_not_given(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """A new version keeps the settings of the old one, but for those that are given."""
    control.answer("GET /deployments/fraud", (200, deployment(revision="fraud-2", fraud_1="draining", fraud_2="serving")))
    control.answer("PUT /deployments/fraud", (202, deployment(revision="fraud-2", fraud_1="serving", fraud_2="starting")))
    assert main(["deploy", "fraud@2", "--max-rows", "16"]) == 0
    asked = json.loads(control.requests("PUT /deployments/fraud")[0].body)
    assert asked == {**SPEC, "model": "fraud@2", "batching": {"max_rows": 16}}
    assert "fraud-2" in capsys.readouterr().out


def test_a_new_deployment_asks_for_nothing_else(control: Control) -> None:
    """A first deployment sends what was given, and leaves the rest to the server's defaults."""
    control.answer("PUT /deployments/eu", (202, deployment()))
    assert main(["deploy", "fraud@champion", "--name", "eu", "--replicas", "2", "--no-wait"]) == 0
    asked = json.loads(control.requests("PUT /deployments/eu")[0].body)
    assert asked == {"name": "eu", "model": "fraud@champion", "scale": {"min_replicas": 2, "max_replicas": 2}}


def test_a_failed_deployment_says_why_and_who_serves(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """A revision that fails ends the command with 6, the reason, and the revision that goes on serving."""
    loading = deployment("starting", "fraud-2", fraud_1="serving", fraud_2="starting")
    failed = deployment("degraded", "fraud-2", fraud_1="serving", fraud_2="failed")
    control.answer("GET /deployments/fraud", (200, loading), (200, loading), (200, failed))
    control.answer("PUT /deployments/fraud", (202, loading))
    assert main(["deploy", "fraud@2"]) == errors.Conflict.exit
    assert capsys.readouterr().err == "headgate: fraud@2 (fraud-2) failed: out of memory; fraud@1 (fraud-1) still serves\n"


def test_deploying_waits_for_what_is_kept_warm(control: Control) -> None:
    """Deploy returns when the versions that ``--also`` names are ready, too."""
    here = deployment("ready", "fraud-2", fraud_1="starting", fraud_2="serving")
    control.answer("PUT /deployments/fraud", (202, here))
    waiting, done = {**here, "also": [also("fraud-1", "starting")]}, {**here, "also": [also("fraud-1", "ready")]}
    control.answer("GET /deployments/fraud", (200, here), (200, waiting), (200, waiting), (200, done))
    assert main(["deploy", "fraud@2", "--also", "1"]) == 0
    assert len(control.requests("GET /deployments/fraud")) == 4


def test_a_version_that_cannot_be_kept_warm_is_named(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """The command fails with 6, says which version it was and why, and that the one that was deployed serves."""
    here = deployment("degraded", "fraud-2", fraud_1="failed", fraud_2="serving")
    control.answer("PUT /deployments/fraud", (202, here))
    control.answer("GET /deployments/fraud", (200, {**here, "also": [also("fraud-1", "failed", "out of memory")]}))
    assert main(["deploy", "fraud@2", "--also", "1"]) == errors.Conflict.exit
    assert capsys.readouterr().err == "headgate: also: fraud@1 (fraud-1) failed: out of memory; fraud@2 (fraud-2) serves\n"


@pytest.mark.parametrize("what", ["nofile.onnx", "my file.onnx", "nofile.py:Model", "./nofile"])
def test_deploying_a_file_that_is_not_there(
    what: str, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What looks like a file is said to be none, with the likely one, whatever the registry says of it as a name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nofiles.onnx").write_bytes(b"x")
    control.answer("PUT /deployments/nofile.onnx", (404, {"error": "model 'nofile.onnx': no such model", "code": "not_found"}))
    assert main(["deploy", what]) == errors.NotFound.exit
    said = capsys.readouterr().err
    assert f"there is no such file or folder in {tmp_path}" in said
    assert what != "nofile.onnx" or "did you mean 'nofiles.onnx'?" in said


def test_a_model_with_a_dot_in_its_name_is_no_file(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a model of that name is, it is deployed; what is wrong with the rest is said as ever."""
    control.answer("PUT /deployments/fraud.eu", (202, deployment()))
    assert main(["deploy", "fraud.eu", "--no-wait"]) == 0
    control.answer("PUT /deployments/fraud.v2", (404, {"error": "fraud.v2@7: no such version", "code": "not_found"}))
    capsys.readouterr()
    assert main(["deploy", "fraud.v2@7"]) == errors.NotFound.exit
    assert capsys.readouterr().err == "headgate: fraud.v2@7: no such version\n"


def test_waiting_ends(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """A deployment that does not get ready in time ends the waiting with 7, and says how far it is."""
    loading = deployment("starting", "fraud-2", "fraud-2: 0 of 1 replicas are ready", fraud_2="starting")
    control.answer("GET /deployments/fraud", (200, loading))
    control.answer("PUT /deployments/fraud", (202, loading))
    assert main(["deploy", "fraud@2", "--timeout-seconds", "0.01"]) == errors.DeadlineExceeded.exit
    assert "0 of 1 replicas are ready" in capsys.readouterr().err


def test_logs_are_passed_on(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs are printed line by line; as JSON, each line is a string."""
    control.answer("GET /deployments/fraud/logs?tail=2", (200, "one\nzwölf\n".encode()))
    assert main(["logs", "fraud", "--tail", "2"]) == 0
    assert capsys.readouterr().out == "one\nzwölf\n"
    assert main(["logs", "fraud", "--tail", "2", "--output", "json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ["one", "zwölf"]


def test_stopping_waits_for_the_end(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Stop asks for the end of a deployment and returns when it is gone."""
    control.answer("DELETE /deployments/fraud", (202, {"name": "fraud", "state": "stopping"}))
    gone = (404, {"error": "no such deployment", "code": "not_found"})
    control.answer("GET /deployments/fraud", (200, deployment("stopping")), (200, deployment("stopping")), gone)
    assert main(["stop", "fraud"]) == 0
    assert capsys.readouterr().out == "fraud has ended\n"
    assert len(control.requests("GET /deployments/fraud")) == 3


def test_the_server_can_be_stopped(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """stop --server without a URL ends the server that the environment names."""
    control.answer("POST /server/stop", (202, {"stopping": True, "pid": 1, "drain_seconds": 35.0}))
    assert main(["stop", "--server", "--no-wait"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("the server is ending\n", "draining, up to 35 s: requests under way are finished\n")


def test_rows_are_counted_from_the_first_of_all(control: Control, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Long data goes in parts, and what the server says of a row of a part is said with where the part begins."""
    (tmp_path / "rows.json").write_text(json.dumps([{"x": at} for at in range(2500)]))
    refusal = (400, {"error": "row 3: input 'x' is missing", "code": "invalid_request"})
    control.answer("POST /predict/fraud", (200, [1] * 1000), refusal)
    assert main(["predict", "fraud", str(tmp_path / "rows.json"), "--url", control.url]) == errors.InvalidRequest.exit
    assert capsys.readouterr().err == "headgate: in the 1000 rows from row 1000 on: row 3: input 'x' is missing\n"
    control.answer("POST /predict/fraud", (200, [1] * 1000), (200, [2] * 1000), (200, [3] * 500))
    assert main(["predict", "fraud", str(tmp_path / "rows.json"), "--url", control.url]) == 0
    assert capsys.readouterr().out.split() == ["1"] * 1000 + ["2"] * 1000 + ["3"] * 500


def test_aliases_and_keys_are_changed_through_the_server(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a server is, aliases and keys are its own to change."""
    control.answer("PUT /models/fraud/aliases/champion", (200, VERSION))
    control.answer("DELETE /models/fraud/aliases/champion", (200, {}))
    control.answer("GET /keys", (200, [KEY]))
    control.answer("POST /keys", (201, {**KEY, "key": "hg_0a1b2c3d_x"}))
    control.answer("DELETE /keys/0a1b2c3d", (200, KEY))
    assert main(["alias", "fraud", "champion", "3"]) == 0
    assert json.loads(control.requests("PUT /models/fraud/aliases/champion")[0].body) == {"version": 3}
    assert main(["alias", "fraud", "champion", "--delete"]) == 0
    assert main(["key", "create", "--scope", "infer", "--scope", "feedback", "--name", "ci"]) == 0
    assert json.loads(control.requests("POST /keys")[0].body) == {"name": "ci", "scopes": ["infer", "feedback"]}
    assert main(["key", "revoke", "0a1b2c3d"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:3] == ["fraud@champion -> 3", "fraud@champion removed", "hg_0a1b2c3d_x"]
    assert "shown only now" in said.err


CODE = """
import numpy as np


class Doubles:
    idempotent = True

    def load(self):
        pass

    def predict(self, x: np.ndarray) -> np.ndarray:
        return 2 * x
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model in plain Python, with an example."""
    (tmp_path / "doubles.py").write_text(CODE)
    (tmp_path / "example.json").write_text('[{"x": 1.5}, {"x": 2.5}]')
    return f"{tmp_path / 'doubles.py'}:Doubles"


def test_pushing_uploads_the_package_once(control: Control, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Push sends the package as a tar, unless the server has it, and registers it; the version it became is printed."""
    control.answer("POST /packages", (201, {"digest": "sha256:0"}))
    control.answer("POST /models/doubles/versions", (201, {**VERSION, "model": "doubles", "number": 1}))
    assert main(["push", model, "--example", str(tmp_path / "example.json"), "--note", "first"]) == 0
    assert capsys.readouterr().out == "doubles@1\n"
    [upload] = control.requests("POST /packages")
    with tarfile.open(fileobj=BytesIO(upload.body)) as archive:
        assert {"manifest.json", "example.json", "files/doubles.py"} <= set(archive.getnames())
    registered = json.loads(control.requests("POST /models/doubles/versions")[0].body)
    assert registered["note"] == "first"
    control.answer(f"HEAD /packages/{registered['digest'].replace(':', '%3A')}", (200, {}))
    control.answer("POST /models/doubles/versions", (200, {**VERSION, "model": "doubles", "number": 1}))
    assert main(["push", model, "--example", str(tmp_path / "example.json")]) == 0
    said = capsys.readouterr()
    assert said.out == "doubles@1\n"
    assert "doubles@1 is this model already" in said.err
    assert len(control.requests("POST /packages")) == 1


def test_a_home_without_a_server_is_opened_directly(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With no server, push, versions, alias, models and key work on the home itself, with the values of the control API."""
    monkeypatch.delenv("HEADGATE_SERVER", raising=False)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))

    def run(*words: str) -> Any:
        assert main([*words, "--output", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    pushed = run("push", model, "--example", str(tmp_path / "example.json"))
    assert (pushed["reference"], pushed["new"]) == ("doubles@1", True)
    assert run("push", model, "--example", str(tmp_path / "example.json"))["new"] is False
    run("alias", "doubles", "champion", "1")
    [version] = run("versions", "doubles")
    assert version.keys() == VERSION.keys()
    assert (version["number"], version["aliases"]) == (1, ["champion"])
    [found] = run("models")
    assert (found["name"], found["aliases"]) == ("doubles", {"champion": 1})
    created = run("key", "create", "--scope", "admin")
    [listed] = run("key", "list")
    assert listed.keys() == KEY.keys()
    assert created == {**listed, "key": created["key"]}
    run("key", "revoke", created["id"])
    assert run("key", "list")[0]["revoked"] is not None
