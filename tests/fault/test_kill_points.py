"""kill -9 of control before each thing that it does in a deploy, and of the supervisor before each thing that it does at its start."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faulty_home import FaultyHome, echo, kill
from serving_home import Serving, eventually, failures, is_alive, under_load

from headgate.package.archive import pack
from headgate.package.folder import verify
from headgate.package.manifest import decode_manifest
from headgate.registry.access import open_registry
from headgate.routes import Weight, decode_table

DRIVER = Path(__file__).with_name("kill_points")
CONTROL, SUPERVISOR = "headgate.control.main", "serve"
"""Words of their command lines."""
MOST = 200
"""Points after which there should have been an end."""


class Points:
    """Orders for the driver: whom to kill, and before which of the things it does."""

    def __init__(self, home: FaultyHome) -> None:
        self._order = home.folder / "order"
        self._struck = home.folder / "order.struck"
        path = os.pathsep.join(filter(None, [str(DRIVER), os.environ.get("PYTHONPATH", "")]))
        home.environment |= {"KILL_POINTS": str(self._order), "PYTHONPATH": path}

    def order(self, whom: str, number: int, kind: str) -> None:
        """From now on, let ``whom`` live until before its ``number``-th point."""
        written = self._order.with_suffix(".new")
        written.write_text(f"{whom} {number} {kind}")
        written.rename(self._order)

    @property
    def struck(self) -> str:
        """What was about to be done when the order was carried out; empty before."""
        return self._struck.read_text() if self._struck.exists() else ""

    def clear(self) -> None:
        """Take back the order, and forget what came of it."""
        self._order.unlink(missing_ok=True)
        self._struck.unlink(missing_ok=True)


class Release:
    """New versions of a model, each one greater, deployed by the control API as the command line does it."""

    def __init__(self, home: FaultyHome, serving: Serving) -> None:
        self._home = home
        self._serving = serving
        self.version = 1
        self.accepted = False
        """Whether the server has said so of the last one."""
        (self._first,) = home.home.store.iterdir()

    def next(self) -> None:
        """Make a package of the model with the next version in its code."""
        self.version += 1
        self.accepted = False
        manifest = decode_manifest((self._first / "manifest.json").read_bytes())
        (name,) = manifest.files
        code = (self._first / "files" / name).read_bytes().replace(b"VERSION = 1", b"VERSION = %d" % self.version)
        manifest = msgspec.structs.replace(manifest, files={name: hashlib.sha256(code).hexdigest()})
        folder = self._home.folder / f"package-{self.version}"
        (folder / "files").mkdir(parents=True)
        (folder / "files" / name).write_bytes(code)
        (folder / "manifest.json").write_bytes(manifest.encode())
        self._digest, self._archive = manifest.digest, b"".join(pack(folder).chunks)

    def deploy(self) -> bool:
        """Upload, register and deploy it, again if need be; whether all of it was acknowledged."""
        try:
            self._send("POST", "/packages", self._archive, 201)
            registered = self._send("POST", "/models/model/versions", {"digest": self._digest}, 200, 201)
            assert registered["number"] == self.version
            spec = {"model": f"model@{self.version}", "resources": {"threads": 1}}
            self._send("PUT", "/deployments/model", spec, 202)
        except (OSError, http.client.HTTPException):
            return False
        self.accepted = True
        return True

    def _send(self, method: str, path: str, body: Any, *expected: int) -> Any:
        answer = self._serving.request(method, path, body, control=True)
        assert answer.status in expected, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer.json

    def settled(self) -> int:
        """Return the version that serves, alone and whole, if database, routing table, desired and actual processes all say so; else 0."""
        home, status = self._home.home, self._serving.status("model")
        if status["state"] != "ready" or len(status["revisions"]) != 1:
            return 0
        (revision,) = status["revisions"]
        name, replicas = revision["name"], {replica["id"] for replica in revision["replicas"] if replica["state"] == "ready"}
        (route,) = decode_table(home.routes.read_bytes()).deployments
        routed = route.split == (Weight(revision=name, share=10_000),) and [entry.name for entry in route.revisions] == [name]
        desired = {process["id"] for process in json.loads(home.desired.read_bytes())["processes"]}
        agreed = replicas and routed and desired == replicas and set(self._home.living()) == {"control", "gateway-0", *replicas}
        answered = self._serving.ask("model", echo(1)).json["output_1"]
        return int(answered) if agreed and answered == revision["version"] else 0


def strike(points: Points, serving: Serving, release: Release) -> bool:
    """Deploy while an order is out; whether it was carried out, in which case control lives again when this returns."""
    before = serving.pid("control")
    release.deploy()
    serving.until(lambda: points.struck or release.settled() == release.version, "control is killed, or the deploy has ended")
    if not points.struck:
        return False
    serving.until(lambda: not is_alive(before) and serving.pid("control") != before, "control is started again")
    return True


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["coarse", pytest.param("fine", marks=pytest.mark.long)])
def test_a_deploy_survives_the_death_of_control_at_every_point(home: FaultyHome, kind: str) -> None:
    """Wherever control is killed in a deploy: it comes back, and without another word the old version serves as before, or the new one
    does, this one surely if it was accepted; doing the same again completes it. No request fails, and nobody is answered by an older
    version than before. Nothing is there twice or by half."""
    points = Points(home)
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    release = Release(home, serving)
    struck = []
    with under_load(serving.url, "model", home.folder) as load:
        for number in range(1, MOST):
            release.next()
            points.order(CONTROL, number, kind)
            if not strike(points, serving, release):
                break
            struck.append(points.struck)
            points.clear()
            legal = {release.version} if release.accepted else {release.version - 1, release.version}
            serving.until(
                lambda legal=legal: release.settled() in legal, f"killed before {struck[-1]}, it settles on one of {legal}"
            )
            serving.until(release.deploy, "the same is accepted again")
            serving.until(lambda: release.settled() == release.version, f"killed before {struck[-1]}, the deploy is completed")
        records = load.end()
    assert len(struck) > 15 and {"commit", "rename to desired.json", "rename to routes.json"} <= set(struck)
    assert failures(records) == []
    check_versions(records, release.version)
    assert serving.stop() == 0
    check_home(home, release.version)


def check_versions(records: Sequence[Mapping[str, Any]], last: int) -> None:
    """Check that every version had its time, and none answered a request that began after a newer one had answered."""
    newest, ended = 0, []
    for record in sorted(records, key=lambda record: record["ended"]):
        if record["version"] > newest:
            newest = record["version"]
            ended.append((newest, record["ended"]))
    assert newest == last
    late = [record for record in records for version, at in ended if record["begun"] > at and record["version"] < version]
    assert late == []


def check_home(home: FaultyHome, versions: int) -> None:
    """Check that exactly these versions are registered, each with a whole package, and that nothing is left of the run."""
    with open_registry(home.home) as registry:
        registered = registry.versions("model")
        assert [version.number for version in registered] == list(range(1, versions + 1))
        assert sorted(version.digest for version in registered) == registry.store.digests()
        assert all(verify(registry.store.path(digest)) for digest in registry.store.digests())
    assert list(home.home.run.iterdir()) == []


def starts(home: FaultyHome, points: Points, ports: Sequence[str]) -> Iterator[str]:
    """Start a server and have it killed before its first point, its second and so on; what each was about to do."""
    for number in range(1, MOST):
        points.order(SUPERVISOR, number, "coarse")
        serving = home.serve(*ports)
        eventually(
            lambda serving=serving: serving.process.poll() is not None or "Ctrl-C" in serving.said, "it is killed, or serves"
        )
        if not points.struck:
            return
        yield points.struck
        points.clear()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_start_survives_the_death_of_the_supervisor_at_every_point(home: FaultyHome) -> None:
    """Wherever ``serve`` is killed while it starts: the next one, on the same ports, serves with one process of each kind, and no other
    is left, not even one that was started and could not be written down any more."""
    points = Points(home)
    first = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    ports = ["--port", first.url.rpartition(":")[2], "--control-port", first.control_url.rpartition(":")[2]]
    assert first.stop() == 0
    struck = []
    for what in starts(home, points, ports):
        struck.append(what)
        points.clear()
        serving = home.serve(*ports).until_ready("model", "").until_settled()
        everybody = dict.fromkeys(("control", "gateway-0", "model-1.1"), 1)
        serving.until(
            lambda everybody=everybody: {name: len(pids) for name, pids in home.living().items()} == everybody,
            f"killed before {what}, everybody is there once",
        )
        serving.until(lambda: len(home.processes()) == 4, "and nobody else")
        serving.process.kill()
        serving.process.wait()
        for pids in home.living().values():
            kill(pids[0])
    spawned = {f"spawn {what}" for what in ("headgate.serving.main", CONTROL, "replica")}
    assert spawned | {"rename to observed.json", "rename to server.json"} <= set(struck)
