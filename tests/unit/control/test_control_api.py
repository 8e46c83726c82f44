"""The control API: every route behind its scope, strict at the edge, and each answer as the contract has it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from control_world import ControlWorld

from headgate.control.access import Access
from headgate.control.api import ROUTES, build_app
from headgate.control.bodies import JSON_BYTES
from headgate.control.endpoints import Backend, Endpoints
from headgate.control.logs import Follower
from headgate.control.reconcile import Reconciler, Setting, World
from headgate.control.routing import Machine
from headgate.control.store import Store
from headgate.home import Home
from headgate.package.manifest import Manifest
from headgate.package.signature import Signature, TensorSpec
from headgate.registry.blobs import PackageStore
from headgate.registry.registry import Registry

with warnings.catch_warnings():
    # It would rather have another HTTP client, which nothing else here needs.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

CODE = b"class Model:\n    pass\n"


class Served:
    """The app on a home of its own, with a client that comes from loopback."""

    def __init__(self, world: ControlWorld, folder: Path, require_key: bool = False) -> None:
        self.world = world
        self.home = Home(folder).create()
        self.registry = Registry(world.database, PackageStore(self.home.store), world.clock)
        store = Store(world.database, world.clock)
        everything = World(store, self.registry, world.packages, world.executor, world.gateway, world.clock)
        self.control = Reconciler(everything, Setting(Machine(cores=4, python="/server/python"), self.home.routes))
        self.control.tick()
        self.ticks = ThreadPoolExecutor(max_workers=1)
        backend = Backend(self.home, store, self.registry, self.control, self.ticks, "http://127.0.0.1:8080", None, require_key)
        access = Access(frozenset({"models.example"}), require_key, lambda: self.control.keys)
        self.client = TestClient(build_app(Endpoints(backend), access), base_url="http://127.0.0.1:8081")

    def tick(self, seconds: float = 1.0) -> None:
        for _ in range(3):
            self.world.clock.advance(seconds)
            self.control.tick()

    def push(self, model: str, text: bytes = CODE) -> str:
        digest = self.client.post("/packages", content=archive(text)).json()["digest"]
        assert self.client.post(f"/models/{model}/versions", json={"digest": digest}).status_code == 201
        return digest


@pytest.fixture
def served(world: ControlWorld, tmp_path: Path) -> Iterator[Served]:
    made = Served(world, tmp_path / "home")
    yield made
    made.ticks.shutdown()


def archive(code: bytes = CODE, **changed: str) -> bytes:
    """Return a package as a tar."""
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1,)),),
        batched=True,
    )
    files = {"model.py": hashlib.sha256(code).hexdigest()}
    manifest = Manifest(runtime="python", entry="model.py:Model", signature=signature, files=files | changed)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in {"manifest.json": manifest.encode(), "files/model.py": code}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


PLACES = {"{name}": "fraud", "{alias}": "champion", "{digest}": f"sha256:{'0' * 64}", "{id}": "00000000"}


def concrete(path: str) -> str:
    for place, value in PLACES.items():
        path = path.replace(place, value)
    return path


def test_the_routes_are_those_of_the_contract():
    """Every route of docs/architecture/processes.md is there with its scope, and no other."""
    text = (Path(__file__).parents[3] / "docs" / "architecture" / "processes.md").read_text()
    table = text[text.index("## The control API") :]
    promised = set()
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[2].startswith("`/"):
            for path in cells[2].split("·"):
                promised |= {(method.strip(), path.strip().strip("`").partition("?")[0]) for method in cells[1].split(",")}
    assert {(entry.method, entry.path) for entry in ROUTES} == promised
    assert {entry.path for entry in ROUTES if entry.scope != "admin"} == {"/healthz"}


@pytest.mark.parametrize("entry", ROUTES, ids=lambda entry: f"{entry.method} {entry.path}")
def test_every_route_wants_its_scope(served, entry):
    """Once there is a key: none gives 401, one for something else 403, an admin key comes in; /healthz is open to all."""
    keys = served.registry.keys
    admin, infer = keys.create("a", ["admin"])[1], keys.create("i", ["infer", "feedback", "gateway"])[1]
    served.control.tick()

    def call(**headers: str) -> int:
        return served.client.request(entry.method, concrete(entry.path), headers=headers).status_code

    if entry.scope is None:
        assert call() == 200
        return
    assert call() == 401
    assert call(authorization="Bearer nonsense") == 401
    assert call(authorization=f"Bearer {infer}") == 403
    for header in ({"authorization": f"Bearer {admin}"}, {"authorization": f"Api-Key {admin}"}, {"x-api-key": admin}):
        assert call(**header) not in (401, 403)


def test_what_is_no_route_is_denied_then_not_found(served):
    """An unknown path tells nothing to whoever has no key; with one it is 404, a wrong verb 405, both in the form of every error."""
    admin = served.registry.keys.create("a", ["admin"])[1]
    served.control.tick()
    assert served.client.get("/nothing").status_code == 401
    answers = [served.client.request(*call, headers={"x-api-key": admin}) for call in (("GET", "/nothing"), ("PATCH", "/keys"))]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found"), (405, "method_not_allowed")]


def test_a_server_that_requires_keys_lets_nobody_in_without(world, tmp_path):
    """Not even while there is none."""
    served = Served(world, tmp_path / "home", require_key=True)
    assert served.client.get("/status").status_code == 401
    served.ticks.shutdown()


def test_while_the_keys_are_not_known_nobody_comes_in(served):
    """A database that could not be read is no reason to open the door."""
    served.control.keys = None
    assert served.client.get("/status").json()["code"] == "not_ready"


def test_a_revoked_key_is_refused_after_the_next_tick(served):
    """And so is none at all as long as another key is good."""
    headers = {"x-api-key": served.client.post("/keys", json={"name": "a", "scopes": ["admin"]}).json()["key"]}
    second = served.client.post("/keys", json={"name": "b", "scopes": ["admin"]}, headers=headers).json()
    assert served.client.delete(f"/keys/{second['id']}", headers=headers).status_code == 200
    assert served.client.get("/keys", headers={"x-api-key": second["key"]}).status_code == 401


def test_nobody_locks_himself_out(served):
    """The first key must be an admin's, and the last admin key is not revoked while others remain."""
    refused = served.client.post("/keys", json={"name": "app", "scopes": ["infer"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    admin = served.client.post("/keys", json={"name": "me", "scopes": ["admin"]}).json()
    headers = {"x-api-key": admin["key"]}
    app = served.client.post("/keys", json={"scopes": ["infer"]}, headers=headers).json()
    assert served.client.delete(f"/keys/{admin['id']}", headers=headers).status_code == 409
    assert served.client.delete(f"/keys/{app['id']}", headers=headers).status_code == 200
    assert served.client.delete(f"/keys/{admin['id']}", headers=headers).status_code == 200
    assert served.client.get("/keys").status_code == 200


def test_only_a_new_key_shows_its_secret(served):
    """The list holds ids, names and scopes."""
    created = served.client.post("/keys", json={"name": "me", "scopes": ["admin", "infer"]}).json()
    listed = served.client.get("/keys", headers={"x-api-key": created["key"]}).text
    assert created["id"] in listed
    assert created["key"] not in listed


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost", "LOCALHOST:1", "[::1]:8081", "127.8.8.8", "models.example:443"])
def test_our_own_names_are_answered(served, host):
    """Loopback by any name and port, and what the server was told it is called."""
    assert served.client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8081", "", "10.0.0.1", "[::1"])
def test_strange_names_are_misdirected(served, host):
    """A page that has its own name point to loopback gets nothing: 421, on the open route too."""
    answer = served.client.get("/healthz", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("https://models.example", 200), ("http://evil.example", 421), ("null", 421)],
)
def test_a_page_of_somebody_else_is_refused(served, origin, status):
    """The Origin of a browser must be one of ours."""
    assert served.client.get("/status", headers={"origin": origin}).status_code == status


def test_a_deploy_answers_with_its_revision(served):
    """PUT gives 202 and the new revision's name at once; the status follows it until it serves."""
    served.push("fraud")
    answer = served.client.put("/deployments/fraud", json={"model": "fraud"})
    assert answer.status_code == 202
    assert (answer.json()["revision"], answer.json()["model"], answer.json()["state"]) == ("fraud-1", "fraud@1", "starting")
    served.tick()
    status = served.client.get("/deployments/fraud").json()
    assert (status["state"], status["version"], status["url"]) == ("ready", 1, "http://127.0.0.1:8080/v2/models/fraud")
    (revision,) = status["revisions"]
    assert (revision["state"], revision["share"], revision["replicas"][0]["state"]) == ("serving", 10_000, "ready")
    assert served.client.get("/status").json()["deployments"] == [status]
    assert served.client.get("/deployments").json() == [status]


def test_the_status_names_the_dialect(served):
    """What was asked for is told at once, and what is in force when it serves: without a setting, what the package's origin says."""
    served.push("fraud")
    assert served.client.put("/deployments/fraud", json={"model": "fraud", "v1": "kserve"}).json()["v1"] == "kserve"
    served.client.put("/deployments/plain", json={"model": "fraud"})
    served.tick()
    assert served.client.get("/deployments/fraud").json()["v1"] == "kserve"
    assert served.client.get("/deployments/plain").json()["v1"] == "tfserving"


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ({"model": "fraud", "timout": "3s"}, "invalid_spec", "timout: there is no such setting; did you mean 'timeout'?"),
        ({"model": "fraud", "scale": {"min_replica": 2}}, "invalid_spec", "did you mean 'min_replicas'?"),
        ({"model": "fraud", "name": "churn"}, "invalid_spec", "name: expected 'fraud', as the path says, got 'churn'"),
        ({"model": "fraud", "timeout": "soon"}, "invalid_spec", "timeout: expected a duration"),
        (
            {"model": "fraud", "v1": "kserv"},
            "invalid_spec",
            "v1: expected tfserving, kserve or truss, got 'kserv'; did you mean 'kserve'?",
        ),
        ({}, "invalid_spec", "model"),
        ({"model": "fraud@7"}, "not_found", "fraud@7: there is no such version"),
        ({"model": "frud"}, "not_found", "did you mean 'fraud'?"),
        ({"model": "fraud", "also": [5]}, "not_found", "fraud@5"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_field(served, spec, code, text):
    """4xx with what is wrong and the likely spelling; nothing is written."""
    served.push("fraud")
    answer = served.client.put("/deployments/fraud", json=spec)
    assert answer.status_code in (400, 404)
    assert answer.json()["code"] == code
    assert text in answer.json()["error"]
    assert served.client.get("/deployments").json() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":' * 100_000])
def test_a_broken_body_is_the_clients_fault(served, body):
    """Neither broken nor bottomless JSON is a 500."""
    answer = served.client.put("/deployments/fraud", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_body_above_the_limit_is_refused(served):
    """413, whatever it says about its length."""
    answer = served.client.put("/deployments/fraud", content=iter([b" " * (1 << 20)] * (JSON_BYTES // (1 << 20) + 1)))
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_a_write_on_an_older_generation_is_refused(served):
    """If-Match holds the generation that was seen."""
    served.push("fraud")
    generation = served.client.put("/deployments/fraud", json={"model": "fraud"}).json()["generation"]
    body = {"model": "fraud", "timeout": "9s"}
    assert served.client.put("/deployments/fraud", json=body, headers={"if-match": str(generation)}).status_code == 202
    assert served.client.put("/deployments/fraud", json=body, headers={"if-match": str(generation)}).status_code == 409
    assert served.client.put("/deployments/fraud", json=body, headers={"if-match": "x"}).status_code == 400


def test_a_deployment_is_ended(served):
    """202, then `stopping`, then 404 once it is gone; ending what is not there is a 404 too."""
    served.push("fraud")
    served.client.put("/deployments/fraud", json={"model": "fraud"})
    served.tick()
    served.world.gateway.inflight["fraud-1"] = 1
    assert served.client.delete("/deployments/fraud").status_code == 202
    assert served.client.get("/deployments/fraud").json()["state"] == "stopping"
    served.world.gateway.inflight.clear()
    served.tick()
    assert served.client.get("/deployments/fraud").status_code == 404
    assert served.client.delete("/deployments/fraud").status_code == 404


def test_a_package_arrives_and_becomes_a_version(served):
    """201 with its digest; HEAD finds it; a second registration is 200 with the version there is."""
    digest = served.push("fraud")
    assert served.client.head(f"/packages/{digest}").status_code == 200
    assert served.client.head(f"/packages/sha256:{'0' * 64}").status_code == 404
    assert served.client.head("/packages/..%2f..%2fetc").status_code in (400, 404)
    again = served.client.post("/models/fraud/versions", json={"digest": digest})
    assert (again.status_code, again.json()["number"]) == (200, 1)
    assert [model["name"] for model in served.client.get("/models").json()] == ["fraud"]
    assert [version["digest"] for version in served.client.get("/models/fraud/versions").json()] == [digest]
    assert served.client.get("/models/fraud").json()["name"] == "fraud"
    assert served.client.get("/models/frauds").status_code == 404


@pytest.mark.parametrize(
    "content",
    [b"", b"not a tar", archive()[:700], archive(**{"other.py": "0" * 64}), archive().replace(b"class Model", b"class Modem")],
    ids=["empty", "noise", "cut off", "a file is missing", "a file has changed"],
)
def test_a_package_that_is_not_what_it_says_is_refused(served, content):
    """400, and nothing of it stays in the store."""
    answer = served.client.post("/packages", content=content)
    assert answer.status_code == 400
    assert list(served.home.store.iterdir()) == []


def test_a_package_larger_than_any_is_refused_unread(served):
    """413 by its announced length."""
    answer = served.client.post("/packages", content=b"x", headers={"content-length": str(1 << 40)})
    assert answer.status_code == 413


def test_what_is_deployed_by_alias_follows_at_once(served):
    """Moving an alias is answered when the deployment has taken it up."""
    served.push("fraud")
    served.push("fraud", CODE + b"#\n")
    assert served.client.put("/models/fraud/aliases/champion", json={"version": 1}).json()["aliases"] == ["champion"]
    served.client.put("/deployments/fraud", json={"model": "fraud@champion"})
    served.client.put("/models/fraud/aliases/champion", json={"version": 2})
    assert served.client.get("/deployments/fraud").json()["revision"] == "fraud-2"
    assert served.client.delete("/models/fraud/aliases/champion").status_code == 200
    assert served.client.delete("/models/fraud/aliases/champion").status_code == 404
    wrong = served.client.put("/models/fraud/aliases/champion", json={"version": "two"})
    assert (wrong.status_code, wrong.json()["error"].partition(":")[0]) == (400, "version")


def test_the_last_lines_of_its_replicas(served):
    """Each line says whose it is; other deployments' logs are not among them, and ``tail`` counts lines."""
    served.push("fraud")
    served.client.put("/deployments/fraud", json={"model": "fraud"})
    for name, text in {"fraud-1.1": "one\ntwo\n", "fraud-10.2": "three\n", "fraud-1-1.1": "no\n", "control": "no\n"}.items():
        served.home.log(name).write_text(text)
        os.utime(served.home.log(name), ns=(len(text), len(text) + (name == "fraud-10.2") * 1000))
    assert served.client.get("/deployments/fraud/logs?tail=2").text == "fraud-1.1 | two\nfraud-10.2 | three\n"
    assert served.client.get("/deployments/fraud/logs?tail=0").text == ""
    assert served.client.get("/deployments/fraud/logs?tail=many").status_code == 400
    assert served.client.get("/deployments/churn/logs").status_code == 404


def test_logs_are_followed(served):
    """Only what is new, whole lines, also of a replica that starts later and of a log that was cut."""
    log = served.home.log("fraud-1.1")
    log.write_text("old\n")
    follower = Follower(served.home, "fraud")
    assert follower.news() == []
    with log.open("a") as file:
        file.write("new\nhal")
    served.home.log("fraud-2.1").write_text("born\n")
    assert sorted(follower.news()) == ["fraud-1.1 | new", "fraud-2.1 | born"]
    with log.open("a") as file:
        file.write("f\n")
    assert follower.news() == ["fraud-1.1 | half"]
    log.write_text("cut\n")
    assert follower.news() == ["fraud-1.1 | cut"]

    async def first() -> str:
        log.write_text("x\n")
        return await anext(follower.lines())

    assert asyncio.run(first()) == "fraud-1.1 | x\n"


def test_a_server_without_a_supervisor_is_not_stopped(served):
    """Nobody is signalled unless the process is the one that wrote ``server.json``: pid and start time."""
    assert served.client.post("/server/stop").status_code == 503
    served.home.server.write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    answer = served.client.post("/server/stop")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_whoever_stops_the_server_is_told_how_long_it_may_take(served):
    """The answer holds what the supervisor wrote down; here that is a process which may be ended."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        started = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        served.home.server.write_text(json.dumps({"pid": process.pid, "started": started, "drain_seconds": 35.0}))
        answer = served.client.post("/server/stop")
        assert (answer.status_code, answer.json()) == (202, {"stopping": True, "pid": process.pid, "drain_seconds": 35.0})
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def test_what_nobody_expected_is_a_500_without_details(served, capsys):
    """The traceback is in the log, not in the answer."""
    served.registry.models = lambda: 1 / 0
    answer = served.client.get("/models")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in capsys.readouterr().err
