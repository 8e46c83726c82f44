"""Rollouts in a whole control plane on a manual clock: what is walked, in which order, and what survives a kill."""

from __future__ import annotations

import pytest
from control_world import ControlWorld

from headgate.control import judging, rollout as states
from headgate.control.orders import order, roll_back
from headgate.control.rollout import STATE_AT, TRANSITIONS, Judged, Rollout, RolloutState, StepKind, steps_of
from headgate.errors import Conflict, NotFound
from headgate.spec import RolloutSpec
from headgate.testing.executors import Script

CANARY = {
    "strategy": "canary",
    "steps": [5, 25],
    "bake": "10s",
    "min_events": 0,
    "on_undecided": "promote",
    "rollback_window": "60s",
}


@pytest.fixture
def stable(world: ControlWorld) -> ControlWorld:
    """fraud@1 serves, and what comes next is rolled out by canary."""
    world.put("fraud@1", rollout=CANARY)
    world.pass_time(3)
    assert world.split() == {"fraud-1": 10_000}
    return world


def newest(world: ControlWorld) -> Rollout:
    return world.store.load().rollouts["fraud"]


def told(world: ControlWorld, who: bool = False) -> list[str]:
    return [f"{line.what} by {line.who}" if who else line.what for line in world.store.history("fraud")]


def say(world: ControlWorld, verb: str, why: str = "") -> None:
    order(world.store, world.control.views["fraud"], verb, "ann", why)
    world.tick()


def shares(world: ControlWorld, seconds: float, revision: str = "fraud-2") -> list[int]:
    """The different shares of ``revision``, in order, within ``seconds``."""
    seen = [world.split().get(revision, 0)]
    for _ in range(round(seconds / 0.5)):
        world.pass_time(0.5)
        share = world.split().get(revision, 0)
        if share != seen[-1]:
            seen.append(share)
    return seen


# ---- the three lists


def test_the_first_revision_has_nothing_to_be_compared_with(stable: ControlWorld) -> None:
    """It serves as soon as it is ready, whatever the strategy; the history says so."""
    assert "fraud" not in stable.store.load().rollouts
    [line] = stable.store.history("fraud")
    assert line.what == "switched" and line.why == "fraud@1: nothing served before"


def test_a_canary_walks_its_steps(stable: ControlWorld) -> None:
    """5 %, 25 %, all; the old one is kept warm for the rollback window and then goes. Every step is in the history."""
    stable.put("fraud@2", rollout=CANARY)
    assert shares(stable, 50) == [0, 500, 2500, 10_000]
    assert stable.revisions() == {"fraud-1": "ready", "fraud-2": "serving"}
    assert newest(stable).state is RolloutState.BAKING
    stable.pass_time(60)
    assert newest(stable).state is RolloutState.COMPLETE
    assert stable.revisions() == {"fraud-2": "serving"}
    assert told(stable) == ["switched", "begun", "step", "step", "promoted", "complete"]


def test_a_step_takes_its_bake_time(stable: ControlWorld) -> None:
    """Not before ten seconds at a share does the next one come."""
    stable.put("fraud@2", rollout=CANARY)
    while stable.split().get("fraud-2", 0) != 500:
        stable.pass_time(0.5)
    stable.pass_time(9)
    assert stable.split()["fraud-2"] == 500
    stable.pass_time(2)
    assert stable.split()["fraud-2"] == 2500


def test_blue_green_switches_at_once_and_keeps_the_old_one(stable: ControlWorld) -> None:
    """No share in between, and the old revision stays ready."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": "blue-green"})
    assert shares(stable, 20) == [0, 10_000]
    assert stable.revisions() == {"fraud-1": "ready", "fraud-2": "serving"}


def test_replace_keeps_nothing(stable: ControlWorld) -> None:
    """With ``replace`` there is no rollout, and the old revision goes at once."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": "replace"})
    stable.pass_time(5)
    assert stable.revisions() == {"fraud-2": "serving"} and "fraud" not in stable.store.load().rollouts
    assert [line.why for line in stable.store.history("fraud")][-1] == "from fraud@1 to fraud@2: strategy replace"


def test_the_list_of_steps_is_all_that_makes_strategies_different() -> None:
    """A canary is blue-green with shares before; 100 is not said twice."""
    kinds = [step.kind for step in steps_of(RolloutSpec(strategy="blue-green"))]
    assert kinds == ["start", "validate", "scale", "promote", "bake", "retire"]
    canary = steps_of(RolloutSpec(strategy="canary", steps=(0.5, 100)))
    assert [(step.kind, step.weight) for step in canary if step.kind not in kinds] == [("set_weight", 50), ("analyse", 0)]


# ---- what keeps it from going on


def test_requests_must_have_been_seen(stable: ControlWorld) -> None:
    """Without traffic the first step lasts until max_duration, and then ends by the policy: silence promotes nobody."""
    rollout = CANARY | {"min_events": 10, "max_duration": "300s", "on_undecided": "hold"}
    stable.put("fraud@2", rollout=rollout)
    assert shares(stable, 290) == [0, 500]
    assert shares(stable, 60) == [500, 0]
    assert newest(stable).state is RolloutState.ROLLED_BACK and "max_duration" in newest(stable).reason
    assert stable.split() == {"fraud-1": 10_000}
    assert stable.revisions() == {"fraud-1": "serving", "fraud-2": "failed"}


@pytest.mark.parametrize(("policy", "state"), [("hold", "inconclusive"), ("promote", "baking"), ("rollback", "rolled_back")])
def test_undecided_is_a_policy(stable: ControlWorld, policy: str, state: str) -> None:
    """Nothing bad was found, nor that it is safe: before 100 % the policy decides, and the history says so."""
    stable.put("fraud@2", rollout=CANARY | {"on_undecided": policy})
    stable.pass_time(40)
    assert newest(stable).state == state
    assert any("neither found safe nor harmful" in line.why for line in stable.store.history("fraud"))


def test_a_candidate_that_never_gets_ready_takes_nothing(stable: ControlWorld) -> None:
    """The old revision keeps everything, and the reason is told."""
    stable.behaviours["sha256:fraud-2"] = Script(refuses="no such file: weights")
    stable.put("fraud@2", rollout=CANARY)
    assert shares(stable, 30) == [0]
    assert newest(stable).state is RolloutState.ROLLED_BACK and "weights" in newest(stable).reason
    assert stable.revisions()["fraud-2"] == "failed" and stable.split() == {"fraud-1": 10_000}


def test_a_candidate_that_clients_would_stumble_over_takes_nothing(stable: ControlWorld) -> None:
    """An input that changes its dtype is found before any traffic, and the way out is named; `replace` is that way."""
    taken = b'{"inputs":[{"name":"x","dtype":"%s","shape":[-1]}],"outputs":[]}'
    stable.packages.signatures |= {"sha256:fraud-1": taken % b"FP32", "sha256:fraud-2": taken % b"INT64"}
    stable.put("fraud@2", rollout=CANARY)
    assert shares(stable, 30) == [0]
    assert newest(stable).state is RolloutState.ROLLED_BACK
    assert (
        newest(stable).reason.startswith("input 'x' changes from FP32 to INT64") and "--strategy replace" in newest(stable).reason
    )
    stable.put("fraud@2", rollout=CANARY | {"strategy": "replace"})
    stable.pass_time(5)
    assert stable.split() == {"fraud-3": 10_000}


def test_a_candidate_whose_replicas_are_gone_is_taken_back(stable: ControlWorld) -> None:
    """With traffic and nobody to take it, the candidate goes after three seconds; one that is back before stays."""
    stable.put("fraud@2", rollout=CANARY | {"bake": "10m"})
    while stable.split().get("fraud-2", 0) != 500:
        stable.pass_time(0.5)
    stable.executor.scripts["fraud-2"] = Script(crashes=True)
    stable.executor.kill("fraud-2.1")
    stable.pass_time(15)
    assert newest(stable).state is RolloutState.ROLLED_BACK and "no replica of it has answered" in newest(stable).reason
    assert stable.split() == {"fraud-1": 10_000}


def test_a_rollout_that_cannot_be_judged_stays(stable: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the judge's own takes no deployment its tick, and promotes nobody."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(judging, "decide", broken)
    stable.put("fraud@2", rollout=CANARY | {"min_events": 1})
    stable.put("eu@1")
    stable.pass_time(60)
    assert stable.split("eu") == {"eu-1": 10_000} and not stable.control.trouble
    assert stable.split() == {"fraud-1": 9_500, "fraud-2": 500}
    assert "ZeroDivisionError" in stable.control.views["fraud"].judged.reason


# ---- people


def test_pause_and_resume(stable: ControlWorld) -> None:
    """A paused rollout stays at its share however long; resumed, its step's time begins anew."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(5)
    say(stable, "pause", "lunch")
    assert shares(stable, 100) == [500]
    assert newest(stable).state is RolloutState.PAUSED and newest(stable).reason == "lunch"
    say(stable, "resume")
    assert shares(stable, 9) == [500]
    assert shares(stable, 30) == [500, 2500, 10_000]
    assert [line for line in told(stable, who=True) if "ann" in line] == ["paused by ann", "resumed by ann"]


def test_promote_leaves_the_rest_out(stable: ControlWorld) -> None:
    """All of the traffic at once, and the old one is kept."""
    stable.put("fraud@2", rollout=CANARY | {"bake": "1h"})
    stable.pass_time(5)
    say(stable, "promote")
    assert stable.split() == {"fraud-2": 10_000} and stable.revisions()["fraud-1"] == "ready"


def test_a_candidate_that_is_not_ready_cannot_be_promoted(stable: ControlWorld) -> None:
    """Nobody could answer."""
    stable.put("fraud@2", rollout=CANARY)
    with pytest.raises(Conflict, match="not ready yet"):
        say(stable, "promote")


def test_abort_gives_everything_back(stable: ControlWorld) -> None:
    """The candidate drains and stays as what was asked for and has failed; asked for again it gets another try."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(15)
    say(stable, "abort", "it smells")
    assert stable.split() == {"fraud-1": 10_000}
    stable.pass_time(5)
    assert stable.revisions() == {"fraud-1": "serving", "fraud-2": "failed"}
    assert stable.revision("fraud-2").reason == "it smells"
    stable.pass_time(60)
    assert stable.revisions() == {"fraud-1": "serving", "fraud-2": "failed"}, "and nobody tries again by himself"
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(5)
    assert stable.split() == {"fraud-1": 9_500, "fraud-3": 500} and newest(stable).number == 2


def test_what_makes_no_sense_is_refused(stable: ControlWorld) -> None:
    """Without a rollout, in the wrong state, or with an unknown word: a conflict, or a hint."""
    for verb in ("pause", "resume", "promote", "abort"):
        with pytest.raises(Conflict, match="no rollout under way"):
            say(stable, verb)
    with pytest.raises(NotFound, match="did you mean 'promote'"):
        say(stable, "promot")
    stable.put("fraud@2", rollout=CANARY)
    with pytest.raises(Conflict, match="nothing to resume"):
        say(stable, "resume")


def test_a_stale_order_is_refused(stable: ControlWorld) -> None:
    """Whoever decides on an older state of the rollout has decided for nothing."""
    stable.put("fraud@2", rollout=CANARY)
    old = stable.control.views["fraud"]
    stable.pass_time(15)
    with pytest.raises(Conflict, match="gone on meanwhile"):
        order(stable.store, old, "abort", "ann", "")


# ---- the way back


def test_a_warm_revision_takes_over_within_one_tick(stable: ControlWorld) -> None:
    """Within the rollback window the old revision has the traffic with the next table, without a rollout; the new one drains."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": "blue-green"})
    stable.pass_time(20)
    done = roll_back(stable.store, stable.control.views["fraud"], "ann", "wrong prices")
    stable.tick()
    assert done.at_once and done.model == "fraud@1"
    assert stable.split() == {"fraud-1": 10_000}
    assert stable.store.deployment("fraud").spec.model == "fraud@1"
    stable.pass_time(10)
    assert stable.revisions() == {"fraud-1": "serving"} and newest(stable).state is RolloutState.ROLLED_BACK
    assert told(stable, who=True)[-1] == "rolled_back by ann"


def test_later_it_is_a_normal_deploy(stable: ControlWorld) -> None:
    """After the window the old version is loaded again, takes over when it is ready, and the answer says so; the strategy stays."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": "blue-green"})
    stable.pass_time(90)
    assert stable.revisions() == {"fraud-2": "serving"}
    done = roll_back(stable.store, stable.control.views["fraud"], "ann", "")
    assert not done.at_once and "not warm any more" in done.said
    assert shares(stable, 10, "fraud-3") == [0, 10_000]
    stable.pass_time(10)
    assert stable.revisions() == {"fraud-3": "serving"} and stable.revision("fraud-3").target.version == 1
    assert stable.store.deployment("fraud").spec.rollout.strategy == "blue-green"


def test_back_in_the_middle_of_a_canary_is_an_abort(stable: ControlWorld) -> None:
    """The old revision has never lost its place."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(8)
    assert roll_back(stable.store, stable.control.views["fraud"], "ann", "").at_once
    stable.tick()
    assert stable.split() == {"fraud-1": 10_000}


def test_there_is_not_always_a_way_back(stable: ControlWorld) -> None:
    """The first version has none before it."""
    with pytest.raises(Conflict, match="nothing served before"):
        roll_back(stable.store, stable.control.views["fraud"], "ann", "")


# ---- other deployments in between


def test_another_candidate_supersedes(stable: ControlWorld) -> None:
    """The first candidate goes, the stable revision is still the one to be compared with."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(15)
    stable.put("fraud@3", rollout=CANARY)
    assert stable.split() == {"fraud-1": 10_000}
    stable.pass_time(5)
    assert stable.split() == {"fraud-1": 9_500, "fraud-3": 500} and "fraud-2" not in stable.revisions()
    assert "superseded" in told(stable) and newest(stable).baseline == "fraud-1"


def test_the_stable_version_asked_for_again_ends_the_rollout(stable: ControlWorld) -> None:
    """Nothing is made anew: it never went."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(15)
    stable.put("fraud@1", rollout=CANARY)
    stable.pass_time(5)
    assert stable.split() == {"fraud-1": 10_000} and stable.revisions() == {"fraud-1": "serving"}


def test_a_deployment_while_the_old_one_is_kept_ends_the_keeping(stable: ControlWorld) -> None:
    """The promoted revision is the stable one of the next rollout."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": "blue-green"})
    stable.pass_time(8)
    stable.put("fraud@3", rollout=CANARY)
    stable.pass_time(5)
    assert stable.split() == {"fraud-2": 9_500, "fraud-3": 500}
    assert "fraud-1" not in stable.revisions()


def test_other_steps_in_the_middle(stable: ControlWorld) -> None:
    """The rollout goes on from its share with the steps that come after it; nothing that was asked for is ignored."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(5)
    stable.put("fraud@2", rollout=CANARY | {"steps": [1, 50]})
    assert shares(stable, 40) == [500, 5_000, 10_000]
    assert "changed" in told(stable)


def test_replace_in_the_middle_switches(stable: ControlWorld) -> None:
    """Whoever has seen enough deploys the same again with ``replace``."""
    stable.put("fraud@2", rollout=CANARY | {"bake": "1h"})
    stable.pass_time(5)
    stable.put("fraud@2", rollout=CANARY | {"strategy": "replace"})
    stable.tick()
    assert stable.split() == {"fraud-2": 10_000}


def test_a_deleted_deployment_takes_its_rollout_with_it(stable: ControlWorld) -> None:
    """Both revisions go."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(15)
    stable.store.delete("fraud")
    stable.pass_time(5)
    assert stable.revisions() == {} and stable.running() == []


# ---- kills


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_a_kill_changes_nothing(stable: ControlWorld, strategy: str) -> None:
    """Control is killed at every half second of a rollout; the shares are those of one that lives, in the same order."""
    stable.put("fraud@2", rollout=CANARY | {"strategy": strategy, "rollback_window": "5s"})
    seen = [0]
    for _ in range(120):
        stable.clock.advance(0.5)
        stable.restart()
        stable.tick()
        stable.tick()  # a control that has just started knows what is in force once it has said it again
        share = stable.split().get("fraud-2", 0)
        if share != seen[-1]:
            seen.append(share)
    assert seen == ([0, 500, 2500, 10_000] if strategy == "canary" else [0, 10_000])
    assert stable.revisions() == {"fraud-2": "serving"}


def test_weights_are_whole_at_any_time(stable: ControlWorld) -> None:
    """In every table that was ever sent the shares add up to all of the traffic."""
    stable.put("fraud@2", rollout=CANARY)
    stable.pass_time(15)
    say(stable, "abort")
    stable.put("fraud@3", rollout=CANARY)
    stable.pass_time(120)
    for table in stable.gateway.tables:
        for route in table.deployments:
            assert not route.split or sum(weight.share for weight in route.split) == 10_000


# ---- tables


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a trap but the ended ones, and each is entered from somewhere; every kind of step has a state."""
    entered = {state for ways in TRANSITIONS.values() for state in ways}
    assert entered | {RolloutState.PENDING} == set(RolloutState)
    assert {RolloutState.COMPLETE, RolloutState.ROLLED_BACK, RolloutState.SUPERSEDED} == states.ENDED
    assert set(STATE_AT) == set(StepKind)


def test_nothing_is_known_before_the_judge_has_seen_anything() -> None:
    """Silence is no verdict."""
    assert Judged().verdict == "undecided" and Judged().requests == 0
