"""What becomes of good and bad candidates, through the engine, the judge and the gateway's routing, on a manual clock."""

from __future__ import annotations

import pytest
from traffic import Model, Traffic

from headgate.control.rollout import RolloutState
from headgate.serving.steering import Steering

CANARY = {"strategy": "canary", "steps": [10, 50], "bake": "30s", "min_events": 50}


@pytest.fixture
def stable(traffic: Traffic) -> Traffic:
    """fraud@1 serves 200 requests a second, one in a thousand of which fails."""
    traffic.environment = Model(errors=0.001)
    traffic.deploy("fraud@1", **CANARY)
    traffic.run(10, 0)
    traffic.run(10, 200)
    return traffic


def test_an_identical_candidate_is_promoted(stable: Traffic) -> None:
    """No harm is found, safety is shown at 50 %, and it gets everything."""
    stable.deploy("fraud@2", **CANARY)
    stable.run(200, 200)
    assert stable.rollout.state is RolloutState.BAKING
    assert stable.world.split() == {"fraud-2": 10_000}
    lines = stable.world.store.history("fraud")
    [promoted] = [line for line in lines if line.what == "promoted"]
    assert promoted.evidence["verdict"] == "safe" and promoted.evidence["metrics"]


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        (Model(errors=0.1), "errors"),
        (Model(invalid=0.1), "invalid"),
        (Model(seconds=0.015), "slow"),
    ],
    ids=["errs", "nan", "slow"],
)
def test_a_bad_candidate_is_taken_back(stable: Traffic, fault: Model, metric: str) -> None:
    """10 % errors, 10 % NaN, or 1.5 times the time: rolled back by itself, with the evidence in the history."""
    stable.models[2] = fault
    stable.deploy("fraud@2", **CANARY)
    stable.run(300, 200)
    assert stable.rollout.state is RolloutState.ROLLED_BACK
    assert stable.world.split() == {"fraud-1": 10_000}
    [line] = [line for line in stable.world.store.history("fraud") if line.what == "rolled_back"]
    assert metric in line.why and line.evidence["verdict"] == "harm"
    assert line.evidence["log_e"] >= line.evidence["log_needed"]


def test_errors_are_found_within_a_minute(stable: Traffic) -> None:
    """10 % errors at a weight of 10 % and 200 requests a second: back within 60 s, at most 2 % of the requests hurt."""
    stable.models[2] = Model(errors=0.1)
    stable.served.clear()
    stable.failed.clear()
    stable.deploy("fraud@2", **CANARY)
    stable.run(60, 200)
    assert stable.rollout.state is RolloutState.ROLLED_BACK
    assert sum(stable.failed.values()) / sum(stable.served.values()) <= 0.02


def test_both_bad_is_the_environment(stable: Traffic) -> None:
    """With an objective that both arms break the rollout is held, and nobody is taken back for it."""
    stable.deploy("fraud@2", slo="errors=1%", **CANARY)
    stable.environment = Model(errors=0.1)
    stable.run(120, 200)
    assert stable.rollout.state is RolloutState.ENVIRONMENT
    assert stable.world.split() == {"fraud-1": 9_000, "fraud-2": 1_000}


def test_silence_promotes_nobody(stable: Traffic) -> None:
    """Without a request the rollout stays where it is."""
    stable.deploy("fraud@2", **CANARY)
    stable.run(200, 0)
    assert stable.world.split() == {"fraud-1": 9_000, "fraud-2": 1_000}


def test_a_kill_of_control_loses_no_evidence(stable: Traffic) -> None:
    """Control is killed every five seconds: what the judge knows in the end is what an undisturbed one knows."""

    def told(disturbed: bool) -> object:
        stable.random.seed(7)
        stable.deploy("fraud@2" if disturbed else "fraud@3", **CANARY | {"steps": [10, 50], "bake": "1h"})
        for _ in range(12):
            stable.run(5, 200)
            if disturbed:
                stable.world.restart()
        stable.run(3, 0)
        judged = stable.world.control.views["fraud"].judged
        return sum(judged.evidence["requests"])

    undisturbed, disturbed = told(False), told(True)
    # The last tick before a kill may have asked, and the answer come to nobody; it comes again.
    assert disturbed == undisturbed


def test_a_user_never_flips_back(stable: Traffic) -> None:
    """By key: who has seen the candidate stays with it while its share grows."""
    users = [f"user-{number}".encode() for number in range(400)]
    seen: dict[bytes, list[str]] = {user: [] for user in users}
    stable.deploy("fraud@2", strategy="canary", steps=[5, 25, 50], bake="5s", min_events=0, on_undecided="promote")
    for _ in range(40):
        stable.run(1, 10)
        for user in users:
            name = stable.chosen(Steering(None, user)).name
            if not seen[user] or seen[user][-1] != name:
                seen[user].append(name)
    assert stable.world.split() == {"fraud-2": 10_000}
    assert all(names in (["fraud-1", "fraud-2"], ["fraud-2"]) for names in seen.values())
