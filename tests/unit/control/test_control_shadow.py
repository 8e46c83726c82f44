"""Shadows in a whole control plane on a manual clock: copies, what ends them, what a person may do, and what survives a kill."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import msgspec
import pytest
from control_world import ControlWorld

from headgate.control.orders import order, roll_back
from headgate.control.rollout import Rollout, RolloutState, steps_of
from headgate.control.rollout_status import rollout_status
from headgate.control.status import DeploymentState, deployment_status
from headgate.errors import Conflict
from headgate.journal import Example, MirrorReport, Outcomes, OutputAgreement, Pulled
from headgate.spec import RolloutSpec
from headgate.testing.executors import Script

SHADOW: dict[str, Any] = {
    "strategy": "shadow",
    "mirror": 20,
    "lasts": "60s",
    "min_events": 100,
    "bake": "10s",
    "rollback_window": "30s",
}
EXAMPLE = Example(difference=1.0, output="y", row=0, live=1.0, candidate=2.0, inputs={"secret": "4111"})


class Mirrored:
    """What the gateway says of the copies, at each pull."""

    def __init__(self, world: ControlWorld) -> None:
        self.world = world
        self.report: MirrorReport | None = None
        self.asked: tuple[str, int] | None = None
        gateway: Any = world.gateway
        gateway.pull, gateway.pulled = self._pull, self._pulled

    def see(self, pairs: int, differed: int = 0, **counts: int) -> None:
        """So many pairs so far."""
        output = OutputAgreement(name="y", compared=pairs, exact=pairs - differed, close=pairs - differed)
        self.report = MirrorReport(pairs=pairs, compared=pairs, differed=differed, outputs=[output], examples=[EXAMPLE], **counts)

    def _pull(self, deployment: str, rollout: int, after: int, most: int) -> None:
        self.asked = (deployment, rollout)

    def _pulled(self, deployment: str) -> Outcomes | None:
        if self.asked is None or self.report is None:
            return None
        return Outcomes(Pulled(deployment=deployment, rollout=self.asked[1], epoch=0, mirror=self.report), b"")


@pytest.fixture
def stable(world: ControlWorld) -> ControlWorld:
    """fraud@1 serves."""
    world.put("fraud@1", rollout=SHADOW)
    world.pass_time(3)
    assert world.split() == {"fraud-1": 10_000}
    return world


@pytest.fixture
def mirrored(stable: ControlWorld) -> Mirrored:
    """fraud@2 is its shadow."""
    made = Mirrored(stable)
    stable.put("fraud@2", rollout=SHADOW)
    stable.pass_time(5)
    return made


def newest(world: ControlWorld) -> Rollout:
    return world.store.load().rollouts["fraud"]


def told(world: ControlWorld) -> list[str]:
    return [line.what for line in world.store.history("fraud")]


def mirror(world: ControlWorld) -> int:
    """What the gateway is told to copy."""
    assert world.gateway.sent is not None
    [route] = world.gateway.sent.deployments
    return route.rollout.mirror if route.rollout else 0


def say(world: ControlWorld, verb: str, why: str = "") -> None:
    order(world.store, world.control.views["fraud"], verb, "ann", why)
    world.tick()


def test_a_shadow_is_a_list_of_steps() -> None:
    """It ends with its copies; only somebody who promotes makes the candidate's way go on."""
    spec = RolloutSpec(strategy="shadow", mirror=0.5, lasts=30, min_events=7)
    assert [step.kind for step in steps_of(spec)] == ["start", "validate", "scale", "mirror"]
    assert [step.kind for step in steps_of(spec, promoting=True)][3:] == ["mirror", "promote", "bake", "retire"]
    copied = steps_of(spec)[-1]
    assert (copied.weight, copied.seconds, copied.events) == (50, 30, 7)


def test_the_candidate_gets_copies_and_no_share(mirrored: Mirrored) -> None:
    """The table tells the gateway how many copies; the old revision keeps everything, in every table that was ever sent."""
    world = mirrored.world
    assert mirror(world) == 2_000 and world.split() == {"fraud-1": 10_000}
    assert newest(world).state is RolloutState.RUNNING
    mirrored.see(500)
    world.pass_time(120)
    splits = [route.split for table in world.gateway.tables for route in table.deployments if route.split]
    assert all([(weight.revision, weight.share) for weight in split] == [("fraud-1", 10_000)] for split in splits)


def test_a_shadow_ends_without_a_promotion(mirrored: Mirrored) -> None:
    """After its time and enough copies the candidate is let go; the deployment is as ready as before, and nothing begins anew."""
    world = mirrored.world
    mirrored.see(500, 25)
    world.pass_time(50)
    assert newest(world).state is RolloutState.RUNNING, "its time is not over"
    world.pass_time(20)
    assert newest(world).state is RolloutState.COMPLETE and mirror(world) == 0
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "tried"}
    assert "25 of 500 answers differ (5 %" in world.revision("fraud-2").reason
    status = deployment_status(world.control.views["fraud"], "")
    assert status.state is DeploymentState.READY and "the shadow is over" in status.reason
    world.pass_time(300)
    assert told(world) == ["switched", "begun", "step", "complete"] and world.running() == ["fraud-1.1"]
    complete = world.store.history("fraud")[-1]
    assert complete.evidence["shadow"]["differed"] == 25 and "25 of 500" in complete.why


def test_asked_for_again_it_begins_again(mirrored: Mirrored) -> None:
    """With another strategy, or the same: a new revision, a new rollout."""
    world = mirrored.world
    mirrored.see(500)
    world.pass_time(70)
    world.put("fraud@2", rollout=SHADOW | {"strategy": "blue-green"})
    world.pass_time(10)
    assert world.split() == {"fraud-3": 10_000} and newest(world).number == 2


def test_too_few_copies_are_no_success(mirrored: Mirrored) -> None:
    """With fewer than min_events the shadow lasts on, and ends as one that was taken back when max_duration is over."""
    world = mirrored.world
    world.put("fraud@2", rollout=SHADOW | {"max_duration": "200s"})
    mirrored.see(99)
    world.pass_time(150)
    assert newest(world).state is RolloutState.RUNNING
    world.pass_time(80)
    assert newest(world).state is RolloutState.ROLLED_BACK and "fewer than 100 copies" in newest(world).reason
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "failed"}


@pytest.mark.parametrize(
    ("bound", "differed", "alone", "state"),
    [
        (None, 300, 0, RolloutState.RUNNING),
        (5, 300, 0, RolloutState.ROLLED_BACK),
        (5, 45, 0, RolloutState.RUNNING),
        (None, 0, 40, RolloutState.ROLLED_BACK),
    ],
    ids=["differs, which is no harm", "differs too much", "differs within the bound", "errs alone"],
)
def test_harm_ends_it(mirrored: Mirrored, bound: float | None, differed: int, alone: int, state: RolloutState) -> None:
    """More differences than were allowed, or bad events that the live version does not have; the evidence is in the history."""
    world = mirrored.world
    world.put("fraud@2", rollout=SHADOW | {"max_disagreement": bound})
    mirrored.see(1000, differed, candidate_only=alone)
    world.pass_time(10)
    assert newest(world).state is state
    if state is RolloutState.ROLLED_BACK:
        [line] = [line for line in world.store.history("fraud") if line.what == "rolled_back"]
        assert line.why.startswith("Harm: ") and line.evidence["shadow"]["harm"] and line.evidence["verdict"] == "harm"
        assert world.split() == {"fraud-1": 10_000} and mirror(world) == 0
        found = rollout_status(world.control.views["fraud"])
        assert found is not None and found.verdict == "harm", "and it is still said afterwards"


def test_what_is_shown_of_it(mirrored: Mirrored) -> None:
    """Disagreement with its confidence sequence, by output, and the worst examples, which are written down nowhere."""
    world = mirrored.world
    mirrored.see(1000, 300, dropped=7)
    world.pass_time(2)
    found = rollout_status(world.control.views["fraud"])
    assert found is not None and found.requests == 1000
    shadow = found.evidence["shadow"]
    lower, upper = shadow["difference"]
    assert 0.22 < lower < 0.3 < upper < 0.38 and shadow["dropped"] == 7
    assert shadow["outputs"][0]["name"] == "y" and shadow["outputs"][0]["differing"] == pytest.approx(0.3)
    assert shadow["examples"] == [msgspec.to_builtins(EXAMPLE)]
    assert "300 of 1,000 answers differ (30 %" in found.verdict_reason
    say(world, "abort")
    world.pass_time(2)
    kept = b"".join(path.read_bytes() for path in world._folder.rglob("headgate.db*"))
    assert b"rolled_back" in kept and b"4111" not in kept


def test_promoting_a_shadow_goes_on_as_blue_green_does(mirrored: Mirrored) -> None:
    """It gets everything, is baked, and the old revision kept warm; no copies any more; a person's word stands against old evidence."""
    world = mirrored.world
    mirrored.see(500, 25)
    world.pass_time(2)
    say(world, "promote", "good enough")
    assert world.split() == {"fraud-2": 10_000} and mirror(world) == 0 and world.revisions()["fraud-1"] == "ready"
    world.pass_time(60)
    assert newest(world).state is RolloutState.COMPLETE and world.revisions() == {"fraud-2": "serving"}
    assert told(world) == ["switched", "begun", "step", "promoted", "complete"]


def test_a_promoted_shadow_has_a_way_back(mirrored: Mirrored) -> None:
    """As long as the old revision is warm, at once."""
    world = mirrored.world
    mirrored.see(500)
    world.pass_time(2)
    say(world, "promote")
    assert roll_back(world.store, world.control.views["fraud"], "ann", "").at_once
    world.tick()
    assert world.split() == {"fraud-1": 10_000}


def test_pause_keeps_it_going(mirrored: Mirrored) -> None:
    """A paused shadow goes on with its copies and comes to no end; resumed, its time begins anew."""
    world = mirrored.world
    mirrored.see(500)
    say(world, "pause", "holiday")
    world.pass_time(200)
    assert newest(world).state is RolloutState.PAUSED and mirror(world) == 2_000
    say(world, "resume")
    mirrored.see(800)
    world.pass_time(55)
    assert newest(world).state is RolloutState.RUNNING
    world.pass_time(10)
    assert newest(world).state is RolloutState.COMPLETE


def test_a_candidate_that_has_gone_is_taken_back(mirrored: Mirrored) -> None:
    """Nobody would notice by the traffic, for it has none."""
    world = mirrored.world
    world.executor.scripts["fraud-2"] = Script(crashes=True)
    world.executor.kill("fraud-2.1")
    world.pass_time(15)
    assert newest(world).state is RolloutState.ROLLED_BACK and "no replica of it has answered" in newest(world).reason


def test_other_settings_in_the_middle(mirrored: Mirrored) -> None:
    """More copies from now on; then a canary of the same candidate; then a shadow again, which gives its share back."""
    world = mirrored.world
    mirrored.see(500)
    world.put("fraud@2", rollout=SHADOW | {"mirror": 100, "lasts": "1h"})
    world.tick()
    assert mirror(world) == 10_000 and newest(world).number == 1
    canary = SHADOW | {"strategy": "canary", "steps": [5], "bake": "1h", "lasts": "1h"}
    world.put("fraud@2", rollout=canary)
    world.pass_time(3)
    assert world.split() == {"fraud-1": 9_500, "fraud-2": 500} and mirror(world) == 0
    world.put("fraud@2", rollout=SHADOW)
    world.pass_time(2)
    assert world.split() == {"fraud-1": 10_000} and mirror(world) == 2_000
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "ready"}
    world.put("fraud@2", rollout=SHADOW | {"strategy": "replace"})
    world.pass_time(3)
    assert world.split() == {"fraud-2": 10_000}


def test_other_settings_of_a_promoted_shadow(mirrored: Mirrored) -> None:
    """Its bake goes on: what has everything is no shadow any more."""
    world = mirrored.world
    mirrored.see(500)
    say(world, "promote")
    world.pass_time(2)
    world.put("fraud@2", rollout=SHADOW | {"rollback_window": "5s"})
    world.pass_time(20)
    assert world.split() == {"fraud-2": 10_000} and newest(world).state is RolloutState.COMPLETE
    with pytest.raises(Conflict, match="no rollout under way"):
        say(world, "promote")


def test_a_kill_changes_nothing(mirrored: Mirrored) -> None:
    """Control is killed at every half second; a gateway that begins anew adds to what the one before has counted."""
    world = mirrored.world
    for second in range(60):
        mirrored.see(10 * second, second)
        world.clock.advance(0.5)
        world.restart()
        world.tick()
        world.tick()
    shadow = world.control.views["fraud"].judged.evidence["shadow"]
    assert (shadow["compared"], shadow["differed"]) == (590, 59)
    mirrored.report = None
    for _ in range(70):
        world.clock.advance(0.5)
        world.restart()
        world.tick()
        world.tick()
    assert newest(world).state is RolloutState.COMPLETE
    assert world.revisions() == {"fraud-1": "serving", "fraud-2": "tried"}


def test_something_else_deployed_ends_it(mirrored: Mirrored) -> None:
    """The candidate goes, and the next shadow is held against the same old revision."""
    world = mirrored.world
    world.put("fraud@3", rollout=SHADOW)
    world.pass_time(5)
    assert "superseded" in told(world) and newest(world).candidate == "fraud-3" and newest(world).baseline == "fraud-1"
    assert world.revisions() == {"fraud-1": "serving", "fraud-3": "ready"}


ORDERS = ("pause", "resume", "promote", "abort")
CHANGES: list[dict[str, Any]] = [
    SHADOW,
    SHADOW | {"mirror": 100, "lasts": "20s"},
    SHADOW | {"max_disagreement": 1},
    SHADOW | {"strategy": "canary", "steps": [5, 50]},
    SHADOW | {"strategy": "canary", "steps": [10], "on_undecided": "rollback"},
    SHADOW | {"strategy": "blue-green"},
]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_the_middle(stable: ControlWorld, seed: int) -> None:
    """Other strategies, orders, evidence, kills of control, in any order: nothing is undecidable, weights are whole, and it ends."""
    random, mirrored = Random(seed), Mirrored(stable)
    mirrored.see(500)
    for _ in range(25):
        what = random.choice(["change", "change", "order", "evidence", "kill", "nothing"])
        if what == "change":
            stable.put(f"fraud@{random.choice([2, 2, 2, 3])}", rollout=random.choice(CHANGES) | {"max_duration": "300s"})
        elif what == "order":
            with suppress(Conflict):  # it makes no sense in every state
                say(stable, random.choice(ORDERS))
        elif what == "evidence":
            mirrored.see(random.randrange(0, 2000), random.randrange(0, 20), candidate_only=random.choice([0, 0, 30]))
        elif what == "kill":
            stable.restart()
        stable.pass_time(*random.choice([(0.5, 0.5), (1.0, 0.5), (4.0, 0.5), (30.0, 5.0)]))
        assert not stable.control.errors
    with suppress(Conflict):
        say(stable, "resume")
    stable.pass_time(700, 5.0)
    assert newest(stable).ended and not stable.control.errors
    for table in stable.gateway.tables:
        for route in table.deployments:
            assert not route.split or sum(weight.share for weight in route.split) == 10_000
            assert not (route.rollout and route.rollout.mirror) or len(route.split) == 1
