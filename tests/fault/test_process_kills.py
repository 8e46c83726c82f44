"""kill -9 of control, of the gateway and of the supervisor, while clients ask."""

from __future__ import annotations

import time

import psutil
from faulty_home import FaultyHome, echo, kill
from serving_home import Serving, eventually, failures, is_alive, under_load

from headgate import errors

BACK = 10.0
"""Seconds within which control must work again."""


def _replica_back(serving: Serving, replica: str, before: int) -> bool:
    """Whether another process runs under the replica's id; until then control is killed whenever it lives."""
    observed = serving.observed()
    if (control := observed["control"]["pid"]) and is_alive(control):
        kill(control)
    return observed[replica]["pid"] not in (None, before) and serving.is_ready(replica.partition("-")[0])


def test_inference_goes_on_without_control(home: FaultyHome) -> None:
    """While control is killed over and over no request fails, and a replica that dies comes back; control then works within 10 s,
    knows everything, and deploys."""
    serving = home.serve(home.model("steady"), home.model("other"), "--threads", "1").until_ready("steady", "other")
    other = serving.pid("other-1.1")
    with under_load(serving.url, "steady", home.folder) as load:
        kill(serving.pid("control"))
        kill(other)
        serving.until(lambda: _replica_back(serving, "other-1.1", other), "the other replica is back without control")
        assert serving.ask("other", echo(3)).status == 200
        # Its backoff is our doing: the ten seconds begin with the start.
        serving.until(lambda: (pid := serving.observed()["control"]["pid"]) and is_alive(pid), "control is started")
        begun = time.monotonic()
        told = serving.until(lambda: (found := serving.status("other"))["state"] == "ready" and found, "control works")
        assert time.monotonic() - begun < BACK
        assert told["revision"] == "other-1"
        home.done("deploy", home.model("steady", version=2), "--threads", "1")
        load.until(20)
        records = load.end()
    assert failures(records) == []
    assert records[-1]["version"] == 2


def test_the_gateway_comes_back_at_the_same_port(home: FaultyHome) -> None:
    """A killed gateway is started again behind the same port, with the same table, and the same replicas link to it."""
    serving = home.serve(home.model("model"), "--replicas", "2", "--threads", "1").until_ready("model")
    before, url = serving.pids(), serving.url
    kill(before["gateway-0"])
    eventually(lambda: serving.pid("gateway-0") != before["gateway-0"], "it is started again")
    serving.until_ready("model", "")
    assert serving.ask("model", echo(4)).json == {"output_0": 4, "output_1": 1}
    serving.until(lambda: all(replica["state"] == "ready" for replica in _replicas(serving, "model")), "both replicas are linked")
    after = serving.pids()
    assert serving.url == url
    assert {name for name in before if before[name] != after[name]} == {"gateway-0"}


def _replicas(serving: Serving, name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = serving.status(name)["revisions"][-1]["replicas"]
    assert len(found) == 2
    return found


def test_the_next_serve_takes_over_what_a_killed_supervisor_left(home: FaultyHome) -> None:
    """Without its supervisor everything serves on; the next serve of the home adopts gateway and replicas without a failed request,
    starts again what died meanwhile, and ends them when it is told to."""
    first = home.serve(home.model("model"), home.model("victim"), "--threads", "1").until_ready("model", "victim").until_settled()
    url, before = first.url, first.pids()
    with under_load(url, "model", home.folder) as load:
        first.process.kill()
        first.process.wait()
        kill(before["victim-1.1"])
        load.until(50)
        second = home.serve()
        assert second.url == url
        second.until(lambda: "took over" in second.said, "it says that it took over")
        second.until_ready("model", "victim", "")
        load.until(50)
        after = second.pids()
        records = load.end()
    assert failures(records) == []
    assert {name for name in before if before[name] == after[name]} == {"gateway-0", "model-1.1"}
    second.until(lambda: second.status("model")["state"] == "ready", "control knows it")
    assert home.run("stop", "--server").returncode == 0
    assert second.process.wait(60) == 0
    assert [name for name, pid in {**before, **after}.items() if is_alive(pid)] == []


def test_replicas_do_not_outlive_every_gateway(home: FaultyHome) -> None:
    """With supervisor, control and gateway killed at once, replicas end themselves; the next serve begins anew on the same home."""
    first = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    before = first.pids()
    for name in ("supervisor", "control", "gateway-0"):
        kill(before[name])
    first.process.wait()
    eventually(lambda: not is_alive(before["model-1.1"]), "the replica has ended")
    second = home.serve().until_ready("model", "")
    assert second.ask("model", echo(1)).status == 200
    assert second.stop() == 0


def test_a_home_may_be_moved(home: FaultyHome) -> None:
    """After a power cut, which leaves the files of the run behind, its home serves at another path what it served before."""
    first = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    for pid in first.pids().values():
        kill(pid)
    first.process.wait()
    moved = FaultyHome(home.folder / "moved")
    try:
        home.home.path.rename(moved.home.path)
        second = moved.serve().until_ready("model", "")
        assert second.ask("model", echo(5)).status == 200
        assert second.stop() == 0
    finally:
        moved.close()


def test_what_deploys_ends_with_a_killed_supervisor(home: FaultyHome) -> None:
    """The process that deploys the targets of serve waits for nobody who is not there: it is gone within three seconds."""
    home.on_load("model", "wait")
    serving = home.serve(home.model("model"), "--threads", "1")
    deployer = serving.until(lambda: _deployer(serving), "the deployer runs")
    serving.until(lambda: (home.notes / "model.waits").exists(), "the model is loaded")
    serving.process.kill()
    serving.process.wait()
    eventually(lambda: not is_alive(deployer), "it has ended", 3.0)


def _deployer(serving: Serving) -> int | None:
    """The process that runs ``headgate up`` for a server."""
    found = [child.pid for child in psutil.Process(serving.process.pid).children() if "up" in child.cmdline()]
    return found[0] if found else None


def test_a_second_serve_is_refused(home: FaultyHome) -> None:
    """A home has one server: another serve says whose it is and where, and changes nothing."""
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model")
    refused = home.run("serve", home.model("another"), "--port", "0", "--control-port", "0")
    assert refused.returncode == errors.Conflict.exit
    assert str(serving.process.pid) in refused.stderr and serving.url in refused.stderr
    assert serving.ask("model", echo(1)).status == 200
    assert serving.get("/predict/another").status in (404, 405)
