"""Anything may happen in any order: deploys, bad packages, crashes, hangs, lagging gateways, and control killed again and again."""

from __future__ import annotations

import shutil
from pathlib import Path

import hypothesis
import pytest
from control_world import ControlWorld
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.control.model import RevisionState
from headgate.journal import LinkState
from headgate.testing.executors import Script

pytestmark = pytest.mark.slow

NAMES = ("churn", "fraud")
VERSIONS = st.integers(1, 3)
PAUSES = st.sampled_from([0.0, 0.6, 1.2, 5.0])
"""Seconds that pass after something has happened: less and more than a replica needs to load."""
BEHAVIOURS = {
    "good": Script(),
    "slow": Script(load_seconds=4.0),
    "refuses": Script(refuses="I will not"),
    "crashes": Script(crashes=True),
    "never": Script(load_seconds=float("inf")),
}
LAG_LIMIT = 15.0
"""Seconds a gateway may lag or be away: beyond the drain limit, control ends revisions on purpose."""


@pytest.fixture(autouse=True, scope="module")
def _migrated(empty_database: Path) -> None:
    ControlMachine.template = empty_database


class ControlMachine(RuleBasedStateMachine):
    """Two deployments of the same kind, one gateway."""

    template: Path
    """A database that is migrated, and empty."""

    @initialize()
    def start(self) -> None:
        self.folder = self.template.parent / "machine"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.world = ControlWorld(self.folder, self.template)
        self.world.registry.aliases = {"champion": 1}
        self.asked: dict[str, dict] = {}
        self.lag = 0.0
        self.gone: set[str] = set()
        self.ran: set[str] = set()
        self.tick()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.converge()
            finally:
                self.world.close()

    def tick(self) -> None:
        """Tick, and look at what a single tick must not do."""
        ready = self.ready()
        self.world.tick()
        running = set(self.world.running())
        for revision, replicas in ready.items():
            assert replicas & running, f"{revision} has the traffic and lost its last ready replica"
        assert not running & self.gone, "an id was given twice"
        self.gone |= self.ran - running
        self.ran |= running

    def ready(self) -> dict[str, set[str]]:
        """Return the ready replicas of every revision that has traffic by the table in force, where it has any and none of them hangs."""
        self.world.gateway.catch_up()
        table, found = self.world.gateway.table, {}
        splits = {weight.revision for route in (table.deployments if table else ()) for weight in route.split}
        for link in self.world.executor.links():
            if link.revision in splits and link.state is LinkState.READY:
                found.setdefault(link.revision, {})[link.id] = link.busy_seconds
        return {revision: set(links) for revision, links in found.items() if not any(links.values())}

    # ---- what may happen

    @rule(
        name=st.sampled_from(NAMES), version=VERSIONS, replicas=st.integers(1, 2), also=st.lists(VERSIONS, max_size=1), pause=PAUSES
    )
    def deploy(self, name: str, version: int, replicas: int, also: list[int], pause: float) -> None:
        self._deploy(name, f"{name}@{version}", replicas, also)
        self.wait(pause)

    @rule(name=st.sampled_from(NAMES), replicas=st.integers(1, 2), pause=PAUSES)
    def deploy_by_alias(self, name: str, replicas: int, pause: float) -> None:
        self._deploy(name, f"{name}@champion", replicas, [])
        self.wait(pause)

    def _deploy(self, name: str, model: str, replicas: int, also: list[int]) -> None:
        scale = {"min_replicas": replicas, "max_replicas": replicas}
        self.asked[name] = {"model": model, "also": also}
        self.world.put(model, also=also, scale=scale, load_timeout="20s", batch_timeout="2s", resources={"memory": "200MiB"})

    @rule(version=VERSIONS, pause=PAUSES)
    def move_alias(self, version: int, pause: float) -> None:
        self.world.registry.aliases["champion"] = version
        self.wait(pause)

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        del self.asked[name]
        self.world.store.delete(name)
        self.wait(0.0)

    @rule(name=st.sampled_from(NAMES), version=VERSIONS, how=st.sampled_from(sorted(BEHAVIOURS)))
    def change_package(self, name: str, version: int, how: str) -> None:
        self.world.behaviours[f"sha256:{name}-{version}"] = BEHAVIOURS[how]

    @rule(name=st.sampled_from(NAMES), version=VERSIONS, state=st.sampled_from(["there", "refused", "preparing"]))
    def change_environment(self, name: str, version: int, state: str) -> None:
        digest = f"sha256:{name}-{version}"
        self.world.packages.refused.pop(digest, None)
        self.world.packages.preparing.discard(digest)
        if state == "refused":
            self.world.packages.refused[digest] = "cannot be installed"
        elif state == "preparing":
            self.world.packages.preparing.add(digest)

    @rule(data=st.data(), what=st.sampled_from(["kill", "hang", "grow"]), pause=PAUSES)
    @precondition(lambda self: self.world.running())
    def hurt(self, data: st.DataObject, what: str, pause: float) -> None:
        replica = data.draw(st.sampled_from(self.world.running()))
        if what == "kill":
            self.world.executor.kill(replica)
        elif what == "hang":
            self.world.executor.hang(replica)
        else:
            self.world.executor.grow(replica, 500 << 20)
        self.wait(pause)

    @rule()
    def kill_control(self) -> None:
        self.world.restart()

    @rule(lagging=st.booleans(), away=st.booleans())
    def change_gateway(self, lagging: bool, away: bool) -> None:
        self.world.gateway.lagging, self.world.gateway.away = lagging, away

    @rule(revisions=st.sets(st.integers(1, 6), max_size=3))
    def change_load(self, revisions: set[int]) -> None:
        self.world.gateway.inflight = {f"{name}-{number}": 1 for number in revisions for name in NAMES}

    @rule(seconds=st.sampled_from([0.1, 12.0]))
    def pass_time(self, seconds: float) -> None:
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps of a second at most."""
        gateway = self.world.gateway
        self.tick()
        while seconds > 0:
            step = min(seconds, 1.0)
            seconds -= step
            self.lag = self.lag + step if gateway.lagging or gateway.away else 0.0
            if self.lag > LAG_LIMIT:
                gateway.lagging = gateway.away = False
            self.world.clock.advance(step)
            self.tick()

    # ---- what always holds

    @invariant()
    def weights_are_all_or_nothing(self) -> None:
        for table in self.world.gateway.tables[-3:]:
            for route in table.deployments:
                assert sum(weight.share for weight in route.split) in (0, 10_000)
                assert {weight.revision for weight in route.split} <= {revision.name for revision in route.revisions}

    @invariant()
    def whoever_gets_traffic_has_replicas(self) -> None:
        """The table in force (an older one, where the gateway lags) never names a revision whose replicas were taken away."""
        table = self.world.gateway.table
        wanted = {spec.revision for spec in self.world.executor.applied}
        for route in table.deployments if table else ():
            assert {weight.revision for weight in route.split} <= wanted

    @invariant()
    def nobody_serves_without_replicas_while_a_candidate_could(self) -> None:
        self.tick()
        for view in self.world.control.views.values():
            serving, candidate = view.serving(), view.fulfilling(view.main)
            if view.linked and serving is not None and candidate is not None and view.ready(serving) == 0:
                assert candidate == serving or view.ready(candidate) == 0

    @invariant()
    def whoever_serves_was_ready_before_the_other_left(self) -> None:
        """One revision at most has the traffic, and every id that should run belongs to a revision that may have replicas."""
        for revisions in self.world.store.load().revisions.values():
            assert sum(revision.state is RevisionState.SERVING for revision in revisions) <= 1
            for revision in revisions:
                if revision.state is RevisionState.SERVING:
                    assert len(revision.replicas) >= revision.spec.scale.min_replicas

    def converge(self) -> None:
        """Left alone with a healthy gateway, every deployment comes to rest where it should, and stays there."""
        gateway = self.world.gateway
        gateway.lagging = gateway.away = False
        gateway.inflight = {}
        self.world.packages.preparing.clear()
        for _ in range(90):
            self.world.clock.advance(1.0)
            self.tick()
        before = self.world.store.load(), self.world.executor.applied, len(gateway.tables)
        self.world.clock.advance(1.0)
        self.tick()
        assert (self.world.store.load(), self.world.executor.applied, len(gateway.tables)) == before
        assert set(self.world.control.views) == set(self.asked)
        for name, asked in self.asked.items():
            self.check_at_rest(name, asked)

    def check_at_rest(self, name: str, asked: dict) -> None:
        view = self.world.control.views[name]
        candidate = view.fulfilling(view.main)
        assert candidate is not None
        assert candidate.target.version == self.world.registry.version(asked["model"]).number
        if candidate.state is not RevisionState.FAILED:
            assert candidate == view.serving()
        for revision in view.revisions:
            assert revision.state in (RevisionState.SERVING, RevisionState.READY, RevisionState.FAILED)
            if revision.state is RevisionState.FAILED:
                assert revision.reason
            else:
                assert len(revision.replicas) == revision.spec.scale.min_replicas


TestControl = ControlMachine.TestCase
TestControl.settings = hypothesis.settings(
    max_examples=max(20, hypothesis.settings.default.max_examples // 10),
    stateful_step_count=30,
    deadline=None,
    # Thirty steps can be read; shrinking them would run thousands of worlds.
    phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate],
)
