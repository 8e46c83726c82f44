"""The tick as a whole, on the real store: deploys, failures, restarts of control, and what gateways and executor are told."""

from __future__ import annotations

import pytest
from control_world import ControlWorld, spec_of
from sqlalchemy import text

from headgate.control.status import DeploymentState, deployment_status
from headgate.errors import Conflict, NotFound
from headgate.registry.keys import KeyHash
from headgate.routes import decode_table
from headgate.testing.executors import Script

MIB = 1 << 20


def status(world: ControlWorld, name: str = "fraud"):
    return deployment_status(world.control.views[name], "http://here", world.control.errors.get(name, ""))


def test_a_first_deploy_serves_as_soon_as_its_replica_is_ready(world):
    """Nothing has weight before, everything after; the replica's name, package and threads are what they should be."""
    world.put("fraud@1", scale={"min_replicas": 2, "max_replicas": 2})
    assert world.split() == {}
    assert world.running() == ["fraud-1.1", "fraud-1.2"]
    spec = world.executor.applied[0]
    assert (spec.package, spec.python, spec.threads) == ("/packages/sha256:fraud-1", "/server/python", 4)
    world.pass_time(1.0)
    assert world.split() == {"fraud-1": 10_000}
    assert status(world).state is DeploymentState.READY


def test_a_starting_revision_is_in_no_routing_table(world):
    """Gateways hear of a revision when it can answer, so that no pin leads to one that cannot."""
    world.put("fraud@1")
    assert world.gateway.sent.deployments[0].revisions == ()
    world.pass_time(1.0)
    assert [route.name for route in world.gateway.sent.deployments[0].revisions] == ["fraud-1"]


def test_a_dialect_comes_into_force_with_its_revision(world):
    """Clients under /v1 are answered as the revision that serves was deployed, until the next one takes over."""
    world.put("fraud@1", v1="kserve")
    world.pass_time(1.0)
    assert world.gateway.sent.deployments[0].v1 == world.control.dialect("fraud") == "kserve"
    world.put("fraud@2", v1="truss")
    assert world.control.dialect("fraud") == "kserve"
    world.pass_time(1.0)
    assert world.gateway.sent.deployments[0].v1 == world.control.dialect("fraud") == "truss"
    assert world.control.dialect("nobody") is None


def test_replacing_a_version_never_leaves_a_gap(world):
    """The old one has all the traffic until the new one has it, and its replicas until it has drained."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.gateway.inflight["fraud-1"] = 3
    world.put("fraud@2")
    assert world.split() == {"fraud-1": 10_000}
    world.pass_time(1.0)
    assert world.split() == {"fraud-2": 10_000}
    assert world.running() == ["fraud-1.1", "fraud-2.1"]
    world.gateway.inflight.clear()
    world.tick()
    assert world.running() == ["fraud-2.1"]
    assert world.revisions() == {"fraud-2": "serving"}


def test_a_gateway_that_lags_keeps_the_old_revision_alive(world):
    """While the old table is in force, an empty report does not mean drained."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.put("fraud@2")
    world.gateway.lagging = True
    world.pass_time(5.0)
    assert world.revisions() == {"fraud-1": "draining", "fraud-2": "serving"}
    assert "fraud-1.1" in world.running()
    world.gateway.lagging = False
    world.tick()
    world.tick()
    assert world.revisions() == {"fraud-2": "serving"}


def test_a_failed_candidate_leaves_everything_and_says_why(world):
    """Its replicas are ended, the old revision keeps the traffic, the status holds the replica's words; asking again tries again."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.behaviours["sha256:fraud-2"] = Script(refuses="needs a newer onnxruntime")
    world.put("fraud@2")
    world.pass_time(1.0)
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "failed"}
    assert (world.split(), world.running()) == ({"fraud-1": 10_000}, ["fraud-1.1"])
    said = status(world)
    assert said.state is DeploymentState.DEGRADED
    assert (said.revision, said.serving) == ("fraud-2", "fraud-1")
    assert said.reason == "fraud@1 (fraud-1) serves, fraud@2 (fraud-2) failed: needs a newer onnxruntime"
    world.behaviours.clear()
    world.put("fraud@2")
    world.pass_time(1.0)
    assert world.split() == {"fraud-3": 10_000}


def test_a_package_whose_environment_cannot_be_made_fails_and_can_be_tried_again(world):
    """FAILED with what the installer said; no replica is started for it."""
    world.packages.refused["sha256:fraud-1"] = "no such requirement"
    world.put("fraud@1")
    assert world.revisions() == {"fraud-1": "failed"}
    assert (world.running(), status(world).state) == ([], DeploymentState.FAILED)
    world.packages.refused.clear()
    world.put("fraud@1")
    assert world.revisions() == {"fraud-2": "starting"}


def test_going_back_to_what_serves_needs_no_new_revision(world):
    """After a failed candidate, asking for the old version again gives the revision that is there."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.behaviours["sha256:fraud-2"] = Script(crashes=True)
    world.put("fraud@2")
    world.pass_time(20.0)
    assert world.revisions()["fraud-2"] == "failed"
    world.put("fraud@1")
    assert world.revisions() == {"fraud-1": "serving"}
    assert status(world).state is DeploymentState.READY


def test_a_deployment_follows_its_alias(world):
    """Moving the alias makes a new revision; an alias that vanishes changes nothing, and the status says so."""
    world.registry.aliases["champion"] = 1
    world.put("fraud@champion")
    world.pass_time(1.0)
    world.registry.aliases["champion"] = 2
    world.pass_time(1.5)
    assert world.split() == {"fraud-2": 10_000}
    assert world.gateway.sent.deployments[0].aliases == {"champion": 2}
    del world.registry.aliases["champion"]
    world.pass_time(5.0)
    assert world.revisions() == {"fraud-2": "serving"}
    assert "what was deployed before stays" in status(world).reason


def test_further_versions_are_kept_warm_without_traffic(world):
    """Each has a revision and replicas of its own; leaving it out of ``also`` ends it."""
    world.put("fraud@3", also=[1, 2])
    world.pass_time(1.0)
    assert world.split() == {"fraud-3": 10_000}
    assert [route.version for route in world.gateway.sent.deployments[0].revisions] == [1, 2, 3]
    world.put("fraud@3", also=[1])
    world.pass_time(1.0)
    assert world.revisions() == {"fraud-1": "ready", "fraud-3": "serving"}


def test_further_versions_are_told_one_by_one(world):
    """Each has a state of its own: starting, ready, failed with its words, degraded; the reason of the whole names it, too."""
    world.behaviours["sha256:fraud-1"] = Script(load_seconds=3.0)
    world.behaviours["sha256:fraud-2"] = Script(load_seconds=4.0, refuses="needs a newer onnxruntime")
    world.put("fraud@3", also=[1, 2])

    def also() -> list[tuple[int, str | None, str]]:
        return [(entry.version, entry.revision, entry.state) for entry in status(world).also]

    world.pass_time(1.0)
    assert also() == [(1, "fraud-1", "starting"), (2, "fraud-2", "starting")]
    said = status(world)
    assert (said.state, said.serving) == (DeploymentState.READY, "fraud-3")
    assert said.reason.startswith("fraud@1 (fraud-1): 0 of 1 replicas are ready; fraud@2 (fraud-2): ")
    world.pass_time(5.0)
    assert also() == [(1, "fraud-1", "ready"), (2, "fraud-2", "failed")]
    said = status(world)
    assert (said.state, said.also[1].reason) == (DeploymentState.DEGRADED, "needs a newer onnxruntime")
    assert said.reason == "fraud@3 (fraud-3) serves, fraud@2 (fraud-2) failed: needs a newer onnxruntime"
    world.executor.kill("fraud-1.1")
    world.tick()
    assert also()[0] == (1, "fraud-1", "degraded")
    assert "killed by SIGKILL" in status(world).also[0].reason


def test_a_revision_that_drains_is_not_the_one_a_pin_finds(world):
    """The newest of a version is what a pin means, so those that leave come first in the table, however new they are."""
    world.put("fraud@2", also=[1])
    world.pass_time(1.0)
    assert world.revisions() == {"fraud-1": "ready", "fraud-2": "serving"}
    world.gateway.inflight = {"fraud-2": 1}
    world.put("fraud@1")
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "draining"}
    assert [route.name for route in world.gateway.sent.deployments[0].revisions] == ["fraud-2", "fraud-1"]


def test_the_settings_of_a_candidate_come_into_force_with_it(world):
    """While the old revision serves, its timeout holds."""
    world.put("fraud@1", timeout="5s")
    world.pass_time(1.0)
    world.put("fraud@1", timeout="9s")
    assert world.gateway.sent.deployments[0].timeout == 5.0
    world.pass_time(1.0)
    assert world.gateway.sent.deployments[0].timeout == 9.0


def test_a_restarted_control_says_what_the_last_one_said(world):
    """Killed at rest, it finds its replicas and sends the same table under the same number; nothing is started or ended."""
    world.put("fraud@1", scale={"min_replicas": 2, "max_replicas": 2})
    world.pass_time(1.0)
    before, tables = world.executor.applied, world.gateway.sent
    world.restart()
    world.pass_time(5.0)
    assert world.executor.applied == before
    assert world.gateway.sent == tables
    assert world.revisions() == {"fraud-1": "serving"}


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0])
def test_a_control_killed_in_the_middle_of_a_deploy_goes_on(world, after):
    """Whatever it had come to, the next one ends at the same place, with no number given twice."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.put("fraud@2")
    world.pass_time(after)
    world.restart()
    world.pass_time(3.0)
    assert world.revisions() == {"fraud-2": "serving"}
    assert world.running() == ["fraud-2.1"]
    numbers = [table.id for table in world.gateway.tables]
    assert numbers == sorted(numbers)


def test_numbers_of_tables_only_grow_even_where_the_file_is_gone(world, tmp_path):
    """A run that begins without ``routes.json`` continues the count from the database."""
    world.put("fraud@1")
    world.pass_time(1.0)
    last = world.gateway.sent.id
    (tmp_path / "world" / "routes.json").unlink()
    world.restart()
    world.tick()
    assert world.gateway.sent.id > last
    assert decode_table((tmp_path / "world" / "routes.json").read_bytes()) == world.gateway.sent


def test_a_replica_that_grows_is_replaced_after_its_successor_is_ready(world):
    """There is never less than one ready replica, and the old one is gone in the end."""
    world.put("fraud@1", resources={"memory": "200MiB"})
    world.pass_time(12.0)
    world.executor.grow("fraud-1.1", 300 * MIB)
    world.tick()
    assert world.running() == ["fraud-1.1", "fraud-1.2"]
    world.pass_time(1.0)
    assert world.running() == ["fraud-1.2"]
    assert world.split() == {"fraud-1": 10_000}


def test_a_replica_that_hangs_is_replaced_under_a_new_id(world):
    """The supervisor kills whom nobody names any more."""
    world.put("fraud@1", batch_timeout="3s")
    world.pass_time(1.0)
    world.executor.hang("fraud-1.1")
    world.pass_time(6.0)
    assert world.running() == ["fraud-1.2"]


def test_a_crash_degrades_and_heals(world):
    """The split stays, the status names the replica and how it ended, and is ready again after the restart."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.executor.kill("fraud-1.1")
    world.tick()
    assert world.split() == {"fraud-1": 10_000}
    assert status(world).state is DeploymentState.DEGRADED
    assert "fraud-1.1: killed by SIGKILL" in status(world).reason
    world.pass_time(2.0)
    assert status(world).state is DeploymentState.READY


def test_deleting_drains_and_forgets(world):
    """It takes no new requests, finishes what it has, and is gone; a later deploy of that name goes on counting revisions."""
    world.put("fraud@1")
    world.pass_time(1.0)
    world.gateway.inflight["fraud-1"] = 1
    world.store.delete("fraud")
    world.tick()
    assert (world.split(), world.running(), status(world).state) == ({}, ["fraud-1.1"], DeploymentState.STOPPING)
    world.gateway.inflight.clear()
    world.tick()
    world.tick()
    assert (world.running(), world.gateway.sent.deployments, world.control.views) == ([], (), {})
    with pytest.raises(NotFound, match="no such deployment"):
        world.store.delete("fraud")
    world.put("fraud@1")
    assert world.revisions() == {"fraud-2": "starting"}


def test_one_deployment_that_cannot_be_decided_stops_no_other(world, capsys):
    """Its neighbours are deployed in the same tick; its own status says what went wrong, the log holds the traceback once."""
    world.put("fraud@1")
    world.pass_time(1.0)
    view = world.control._view
    world.control._view = lambda deployment, *rest: 1 / 0 if deployment.name == "fraud" else view(deployment, *rest)
    world.put("churn@1")
    world.pass_time(1.0)
    assert world.split("churn") == {"churn-1": 10_000}
    assert world.split("fraud") == {"fraud-1": 10_000}
    assert world.running() == ["churn-1.1", "fraud-1.1"]
    assert "ZeroDivisionError" in status(world).reason
    assert capsys.readouterr().err.count("Traceback") == 1


def test_a_package_that_vanished_from_the_store_ends_nobody(world):
    """Who has loaded it serves on, with the route it had."""
    world.put("fraud@1")
    world.pass_time(1.0)

    def gone(digest: str):
        raise NotFound(f"package {digest}: not in this store")

    world.packages.folder = world.packages.facts = gone
    world.pass_time(2.0)
    assert world.running() == ["fraud-1.1"]
    assert world.split() == {"fraud-1": 10_000}


def test_a_tick_that_breaks_is_survived(world, capsys):
    """`try_tick` says it once, changes nothing, and goes on when the cause is gone."""
    world.put("fraud@1")
    world.pass_time(1.0)
    load, world.store.load = world.store.load, lambda: 1 / 0
    world.control.try_tick()
    world.control.try_tick()
    assert capsys.readouterr().err.count("ZeroDivisionError") == 1
    assert world.running() == ["fraud-1.1"]
    world.store.load = load
    world.control.try_tick()
    assert world.split() == {"fraud-1": 10_000}


UNREADABLE = {
    "a setting of a newer version": """UPDATE deployments SET spec = json_set(spec, '$.timeout', 'a while')""",
    "no JSON": """UPDATE deployments SET spec = '{"name": '""",
    "a revision": """UPDATE revisions SET spec = 'null'""",
    "a state of a newer version": """UPDATE revisions SET state = 'judged'""",
    "a placement": """UPDATE meta SET value = '[]' WHERE key LIKE 'placement/%'""",
}


def damage(world: ControlWorld, what: str) -> None:
    """Damage what is stored of the deployment ``fraud``."""
    mine = {"deployments": "name = 'fraud'", "revisions": "deployment = 'fraud'", "meta": "key LIKE '%/fraud-%'"}
    statement = UNREADABLE[what]
    clause = " AND " if "WHERE" in statement else " WHERE "
    with world.database.begin() as session:
        session.execute(text(statement + clause + mine[statement.split()[1]]))


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_row_that_cannot_be_read_costs_its_own_deployment(world, what, capsys):
    """The others go on; it keeps the traffic and the replicas it has, its status says what is wrong, and deploying it again mends it."""
    world.put("fraud@1")
    world.pass_time(1.0)
    damage(world, what)
    world.put("churn@1")
    world.pass_time(2.0)
    assert world.split("churn") == {"churn-1": 10_000}
    assert status(world, "churn").state is DeploymentState.READY
    assert (world.split(), world.running()) == ({"fraud-1": 10_000}, ["churn-1.1", "fraud-1.1"])
    said = status(world)
    assert said.state in (DeploymentState.DEGRADED, DeploymentState.FAILED)
    assert "cannot be read" in said.reason and "Deploy it again" in said.reason
    assert capsys.readouterr().err.count("deployment fraud:") == 1
    world.put("fraud@2")
    world.pass_time(2.0)
    assert status(world).state is DeploymentState.READY
    (serving,) = world.split()
    assert world.running() == ["churn-1.1", f"{serving}.1"]


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_can_be_ended(world, what):
    """Nobody needs to read it for that; its replicas end and its name is free."""
    world.put("fraud@1")
    world.pass_time(1.0)
    damage(world, what)
    world.tick()
    world.store.delete("fraud")
    world.pass_time(2.0)
    assert (world.running(), world.control.views, world.gateway.sent.deployments) == ([], {}, ())


def test_whoever_is_let_in_finds_something_to_see(world):
    """The first keys, which open the control API, are there after the views, not before; a tick that breaks on the way opens nothing."""
    world.store.put(spec_of("fraud@1"))
    world.restart()
    load, world.store.load = world.store.load, lambda: 1 / 0
    world.control.try_tick()
    assert world.control.keys is None
    world.store.load = load
    seen = []
    publish, world.gateway.publish = (
        world.gateway.publish,
        lambda table: seen.append((world.control.keys, dict(world.control.views))),
    )
    world.control.try_tick()
    world.gateway.publish = publish
    ((keys, views),) = seen
    assert keys == () and views.keys() == {"fraud"}


def test_a_key_is_revoked_whatever_becomes_of_the_tick(world):
    """A tick that breaks later has read the keys."""
    world.registry.keys.good = (KeyHash(id="k1", sha256="ab", scopes=frozenset({"admin"})),)
    world.tick()
    world.registry.keys.good = ()
    world.store.load = lambda: 1 / 0
    world.control.try_tick()
    assert world.control.keys == ()


def test_keys_go_down_as_hashes_and_are_revoked_by_the_next_tick(world):
    """The table holds the good keys of that moment."""
    world.registry.keys.good = (KeyHash(id="k1", sha256="ab", scopes=frozenset({"infer", "admin"})),)
    world.tick()
    assert [(key.id, key.sha256) for key in world.gateway.sent.keys] == [("k1", "ab")]
    world.registry.keys.good = ()
    world.tick()
    assert world.gateway.sent.keys == ()


def test_a_quiet_tick_sends_nothing(world):
    """Without a change there is no new table, whatever else ticks."""
    world.put("fraud@1")
    world.pass_time(1.0)
    sent = len(world.gateway.tables)
    world.pass_time(10.0)
    assert len(world.gateway.tables) == sent


def test_whoever_decided_on_an_older_generation_changes_nothing(world):
    """Compare and swap: actions and writes that come too late are refused as a whole."""
    world.store.put(spec_of("fraud@1"))
    (old,) = world.store.load().deployments
    world.store.put(spec_of("fraud@2"))
    with pytest.raises(Conflict, match="generation 1 was expected, it is at 2"):
        world.store.apply(old, [])
    with pytest.raises(Conflict, match="Somebody else was faster"):
        world.store.put(spec_of("fraud@3"), expected=1)
    assert world.store.load().deployments[0].spec.model == "fraud@2"


def test_asking_for_the_same_again_changes_nothing(world):
    """Neither generation nor revisions."""
    world.put("fraud@1", timeout="5s")
    world.pass_time(1.0)
    before = world.store.load()
    world.put("fraud@1", timeout="5s")
    assert world.store.load() == before


def test_a_deployment_has_one_model(world):
    """Another one is refused while it is there, and taken once it has been deleted."""
    world.put("fraud@1")
    with pytest.raises(Conflict, match="a deployment has one model"):
        world.store.put(spec_of("churn@1", name="fraud"))
    world.store.delete("fraud")
    world.put("churn@1", name="fraud")
    assert world.running() == ["fraud-2.1"]
