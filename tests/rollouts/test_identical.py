"""A candidate that is the same model again, many times over: how often is it taken back for nothing?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from control_world import ControlWorld
from traffic import Model, Traffic

from headgate.control.rollout import RolloutState

RUNS, SECONDS, RATE = 200, 20, 1000
CANARY = {"strategy": "canary", "steps": [10, 50], "bake": "5s", "min_events": 50, "slo": "p99=80ms,errors=5%"}


def rolled_out(folder: Path, template: Path, seed: int) -> tuple[bool, bool]:
    """Roll the same model out with 20,000 requests. Return whether it was taken back, and whether a z-test that is looked at every
    second would have done so."""
    world = ControlWorld(folder, template)
    try:
        traffic = Traffic(world, seed)
        traffic.environment = Model(errors=0.01)
        world.put("fraud@1", rollout=CANARY, scale={"min_replicas": 1 + seed % 3, "max_replicas": 1 + seed % 3})
        traffic.run(8, 0)
        world.put("fraud@2", rollout=CANARY, scale={"min_replicas": 1, "max_replicas": 1})
        while "fraud-2" not in world.split():
            traffic.run(1, 0)
        traffic.run(6, 0)  # its replicas are warm
        peeked = False
        for _ in range(SECONDS):
            traffic.run(1, RATE)
            peeked = peeked or z_of(traffic) > 2.326  # one-sided 1 %, as the judge's
        return traffic.rollout.state is RolloutState.ROLLED_BACK, peeked
    finally:
        world.close()


def z_of(traffic: Traffic) -> float:
    """The two-proportion z statistic of the errors so far, candidate above baseline."""
    ours, theirs = traffic.served["fraud-2"], traffic.served["fraud-1"]
    if not ours or not theirs:
        return 0.0
    bad = traffic.failed["fraud-2"] + traffic.failed["fraud-1"]
    rate = bad / (ours + theirs)
    spread = math.sqrt(rate * (1 - rate) * (1 / ours + 1 / theirs))
    return (traffic.failed["fraud-2"] / ours - traffic.failed["fraud-1"] / theirs) / spread if spread else 0.0


@pytest.mark.long
def test_the_same_model_again_is_seldom_taken_back(tmp_path: Path, template: Path) -> None:
    """Of 200 rollouts of the same model, unequal replica counts among them, with all default metrics and two objectives on: at most 6
    are taken back (1 % is promised). A z-test at the same 1 %, looked at every second, takes back more than that: so the harness would
    have seen it.
    """
    outcomes = [rolled_out(tmp_path / f"{seed}", template, seed) for seed in range(RUNS)]
    assert sum(back for back, _ in outcomes) <= 6
    assert sum(peeked for _, peeked in outcomes) > 6
