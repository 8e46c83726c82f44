"""Decisions as literal views: one view, the one outcome it must have."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from control_world import spec_of

from headgate.control.decide import Create, Move, Place, Record, decide
from headgate.control.model import (
    TRANSITIONS,
    Deployment,
    Placement,
    Prepared,
    Refused,
    Revision,
    RevisionState,
    Target,
    View,
    pin,
)
from headgate.executors.base import ObservedReplica, ReplicaState
from headgate.journal import LinkState, ReplicaReport, RevisionReport
from headgate.supervision import policy

S = RevisionState
MIB = 1 << 20


@dataclass
class Scene:
    """A view in the making: deployment ``fraud`` of version 2, whose revisions are added."""

    settings: dict = field(default_factory=dict)
    fields: dict = field(
        default_factory=lambda: {"linked": True, "links": {}, "observed": {}, "loads": {}, "ages": {}, "prepared": {}}
    )
    revisions: list[Revision] = field(default_factory=list)
    model: str = "fraud@2"

    @property
    def spec(self):
        return spec_of(self.model, **self.settings)

    def target(self, version: int) -> Target:
        return Target(version=version, digest=f"sha256:{version}", spec=pin(self.spec, version))

    def revision(self, number: int, version: int, state: RevisionState, ready: int = 0, numbers=None, next=None) -> Scene:
        count = self.spec.scale.min_replicas
        numbers = tuple(range(1, count + 1)) if numbers is None else numbers
        placement = None if state in (S.PENDING, S.FAILED) else Placement(numbers=numbers, next=next or max(numbers) + 1)
        made = Revision(
            name=f"fraud-{number}", deployment="fraud", number=number, target=self.target(version), state=state, placement=placement
        )
        self.revisions.append(made)
        for replica in made.replicas[:ready]:
            self.link(replica)
        return self

    def link(self, replica: str, state=LinkState.READY, busy: float = 0.0) -> Scene:
        report = ReplicaReport(id=replica, revision=replica.rpartition(".")[0], pid=1, state=state, busy_seconds=busy)
        self.fields["links"][replica] = report
        return self

    def see(self, replica: str, **fields) -> Scene:
        self.fields["observed"][replica] = ObservedReplica(id=replica, **{"state": ReplicaState.RUNNING, **fields})
        return self

    def load(self, revision: str, queued: int = 0, inflight: int = 0, sequences: int = 0) -> Scene:
        report = RevisionReport(
            revision=revision, queued_rows=queued, inflight=inflight, requests=0, failures=0, rejected=0, sequences=sequences
        )
        self.fields["loads"][revision] = report
        return self

    def also(self, **fields) -> Scene:
        self.fields.update(fields)
        return self

    def decide(self, deleted: bool = False, main: int | None = 2):
        view = View(
            deployment=Deployment(name="fraud", spec=self.spec, generation=1, deleted=deleted),
            revisions=tuple(self.revisions),
            main=None if deleted or main is None else self.target(main),
            also=() if deleted else tuple(self.target(version) for version in self.spec.also),
            **self.fields,
        )
        return [action for action in decide(view) if not isinstance(action, Record)]


def test_what_is_asked_for_and_not_there_is_made():
    """A deployment without revisions gets one for its version, and one for each version to keep warm, the main one last."""
    assert Scene().decide() == [Create(Scene().target(2))]
    scene = Scene({"also": [1, 2]})
    assert scene.decide() == [Create(scene.target(1)), Create(scene.target(2))]


def test_a_new_version_is_made_beside_the_one_that_serves():
    """The serving revision is not touched when something else is asked for."""
    scene = Scene().revision(1, 1, S.SERVING, ready=1)
    assert scene.decide() == [Create(scene.target(2))]


def test_the_same_version_with_other_settings_is_another_revision():
    """A changed setting makes a new revision, although the package is the same."""
    before = Scene({"timeout": "5s"}).revision(1, 2, S.SERVING, ready=1)
    after = Scene({"timeout": "9s"}, revisions=before.revisions, fields=before.fields)
    assert after.decide() == [Create(after.target(2))]


def test_keeping_another_version_warm_does_not_touch_the_main_one():
    """``also`` is no setting of a revision: the main one serves on."""
    scene = Scene({"also": [1]})
    assert scene.revision(1, 2, S.SERVING, ready=1).decide() == [Create(scene.target(1))]


def test_a_revision_waits_for_its_environment():
    """PENDING ends when the environment is there (STARTING, with its replicas) or cannot be made (FAILED, with the reason)."""
    waiting = Scene({"scale": {"min_replicas": 2, "max_replicas": 2}}).revision(1, 2, S.PENDING)
    assert waiting.decide() == []
    placement = Placement(numbers=(1, 2), next=3, python="/env/python")
    done = waiting.also(prepared={"sha256:2": Prepared(python="/env/python")})
    assert done.decide() == [Move("fraud-1", S.STARTING, placement=placement)]
    refused = waiting.also(prepared={"sha256:2": Refused(reason="no such package")})
    assert refused.decide() == [Move("fraud-1", S.FAILED, "no such package")]


def test_all_replicas_must_be_ready():
    """With one of two ready a candidate waits; with both it is READY."""
    settings = {"scale": {"min_replicas": 2, "max_replicas": 2}}
    scene = Scene(settings).revision(1, 1, S.SERVING, ready=2).revision(2, 2, S.STARTING, ready=1)
    assert scene.decide() == []
    assert scene.link("fraud-2.2").decide() == [Move("fraud-2", S.READY)]


def test_a_ready_candidate_takes_over_in_one_step():
    """The new one serves and the old one drains, decided together so that they are stored together."""
    scene = Scene().revision(1, 1, S.SERVING, ready=1).revision(2, 2, S.READY, ready=1)
    assert scene.decide() == [Move("fraud-2", S.SERVING), Move("fraud-1", S.DRAINING)]


def test_the_old_one_stays_warm_where_also_names_it():
    """It goes back to READY instead of draining."""
    scene = Scene({"also": [1]}).revision(1, 1, S.SERVING, ready=1).revision(2, 2, S.READY, ready=1)
    assert scene.decide() == [Move("fraud-2", S.SERVING), Move("fraud-1", S.READY)]


def test_a_warm_version_takes_over_at_once():
    """Asking for a version that is kept warm needs no start."""
    scene = Scene({"also": [1]}, model="fraud@2").revision(1, 2, S.READY, ready=1).revision(2, 1, S.SERVING, ready=1)
    assert scene.decide() == [Move("fraud-1", S.SERVING), Move("fraud-2", S.READY)]


def test_a_candidate_whose_replica_died_before_the_switch_does_not_take_over():
    """READY is looked at again at the moment of the switch."""
    scene = Scene().revision(1, 1, S.SERVING, ready=1).revision(2, 2, S.READY, ready=0)
    assert scene.decide() == []


def test_one_ready_replica_is_enough_where_the_old_one_has_none():
    """When the serving revision cannot answer, a candidate that can does not wait for its siblings."""
    settings = {"scale": {"min_replicas": 2, "max_replicas": 2}}
    scene = Scene(settings).revision(1, 1, S.SERVING, ready=0).revision(2, 2, S.STARTING, ready=1)
    assert scene.decide() == [Move("fraud-2", S.READY)]


def test_a_crashed_serving_revision_keeps_the_traffic():
    """Its replicas come back by themselves; nothing is switched and nothing removed."""
    scene = Scene().revision(1, 2, S.SERVING, ready=0).see("fraud-1.1", state=ReplicaState.BACKOFF, restarts=9)
    assert scene.decide() == []


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (Scene().revision(2, 2, S.STARTING).also(failures={"fraud-2.1": "needs onnxruntime"}), "needs onnxruntime"),
        (
            Scene().revision(2, 2, S.STARTING).see("fraud-2.1", restarts=4, exit="killed by SIGSEGV", tail="boom"),
            "fraud-2.1 ended 4 times before it was ready (killed by SIGSEGV); it last wrote:\nboom",
        ),
        (
            Scene({"load_timeout": "1s"}).revision(2, 2, S.STARTING).see("fraud-2.1", restarts=4, exit=policy.exit_in_words(-14)),
            "load_timeout: fraud-2.1 was not ready after 1 s, 4 times; give it more time, or see why in its log",
        ),
        (
            Scene({"load_timeout": "20s"}).revision(2, 2, S.STARTING).also(ages={"fraud-2": 26.0}),
            "load_timeout: 0 of 1 replicas were ready after 20 s; give it more time, or see why in its log",
        ),
    ],
    ids=["says FAILED", "keeps ending", "keeps running out of time", "takes too long"],
)
def test_a_candidate_fails_with_a_reason_and_the_old_one_stays(scene, reason):
    """FAILED holds the replica's own words, or its last ones; whoever serves is not mentioned in what is done."""
    assert scene.decide() == [Move("fraud-2", S.FAILED, reason)]


def test_nothing_is_judged_without_a_gateway():
    """Whoever cannot see whether a replica is ready does not fail, replace or drain anything."""
    scene = Scene({"load_timeout": "20s", "resources": {"memory": "1MiB"}}).also(linked=False)
    scene.revision(1, 1, S.SERVING).see("fraud-1.1", rss=9 * MIB)
    scene.revision(2, 2, S.STARTING).see("fraud-2.1", restarts=9).also(ages={"fraud-2": 99.0, "fraud-1.1": 99.0})
    assert scene.decide() == []


def test_a_failed_candidate_is_not_tried_again_by_itself():
    """It stays FAILED, and blocks another try, until somebody asks."""
    assert Scene().revision(1, 1, S.SERVING, ready=1).revision(2, 2, S.FAILED).decide() == []


def test_whoever_is_superseded_goes_without_having_served():
    """A third deploy in the middle of the second: the second's replicas are ended, the first serves on."""
    scene = Scene().revision(1, 1, S.SERVING, ready=1).revision(2, 3, S.STARTING).revision(3, 2, S.PENDING)
    assert scene.decide() == [Move("fraud-2", S.RETIRED)]


def test_draining_ends_when_the_gateway_has_nothing_left_for_it():
    """Not before the table without its weight is in force, not while requests are there, but at the latest after 30 s."""
    scene = Scene().revision(1, 1, S.DRAINING, ready=1).revision(2, 2, S.SERVING, ready=1)
    assert scene.load("fraud-1").also(shares=None).decide() == []
    assert scene.also(shares={"fraud-1": 10_000}).decide() == []
    assert scene.also(shares={"fraud-2": 10_000}).load("fraud-1", inflight=1).decide() == []
    assert scene.load("fraud-1", queued=1).decide() == []
    assert scene.load("fraud-1").decide() == [Move("fraud-1", S.RETIRED)]
    late = scene.load("fraud-1", inflight=1).also(ages={"fraud-1": 30.1})
    assert late.decide() == [Move("fraud-1", S.RETIRED)]


def test_open_sequences_keep_a_draining_revision():
    """They stay with it beyond the 30 s of requests, up to an hour; where the deployment has ended, nothing waits for them."""
    scene = Scene().revision(1, 1, S.DRAINING, ready=1).revision(2, 2, S.SERVING, ready=1).also(shares={"fraud-2": 10_000})
    scene.load("fraud-1", sequences=1)
    assert scene.decide() == scene.also(ages={"fraud-1": 3599.0}).decide() == []
    assert scene.also(ages={"fraud-1": 3600.1}).decide() == [Move("fraud-1", S.RETIRED)]
    assert scene.also(ages={"fraud-1": 1.0}).load("fraud-1").decide() == [Move("fraud-1", S.RETIRED)]
    ended = Scene().revision(1, 1, S.DRAINING, ready=1).also(shares={}, ages={"fraud-1": 30.1}).load("fraud-1", sequences=1)
    assert ended.decide(deleted=True) == [Move("fraud-1", S.RETIRED)]


def test_a_deleted_deployment_drains_everything():
    """SERVING and warm revisions drain, those that never served go at once."""
    scene = Scene({"also": [1]}).revision(1, 1, S.READY, ready=1).revision(2, 2, S.SERVING, ready=1).revision(3, 3, S.STARTING)
    assert scene.decide(deleted=True) == [Move("fraud-1", S.DRAINING), Move("fraud-2", S.DRAINING), Move("fraud-3", S.RETIRED)]


def test_a_stuck_replica_is_replaced():
    """Two seconds past batch_timeout its number is dropped and a new one given; before, the replica is left to end itself."""
    scene = Scene({"batch_timeout": "10s"}).revision(1, 2, S.SERVING, ready=1)
    assert scene.link("fraud-1.1", busy=11.9).decide() == []
    assert scene.link("fraud-1.1", busy=12.1).decide() == [Place("fraud-1", Placement(numbers=(2,), next=3))]


def test_a_replica_above_its_memory_gets_a_successor_first():
    """The one above the limit goes only when all others are ready; which one that is, is told by its size, not its age."""
    settings = {"scale": {"min_replicas": 2, "max_replicas": 2}, "resources": {"memory": "100MiB"}}
    scene = Scene(settings).revision(1, 2, S.SERVING, ready=2).also(ages={"fraud-1.1": 60.0, "fraud-1.2": 60.0})
    scene.see("fraud-1.1", rss=50 * MIB).see("fraud-1.2", rss=101 * MIB)
    assert scene.decide() == [Place("fraud-1", Placement(numbers=(1, 2, 3), next=4))]
    scene.revisions.clear()
    scene.revision(1, 2, S.SERVING, ready=2, numbers=(1, 2, 3))
    assert scene.decide() == []
    assert scene.link("fraud-1.3").decide() == [Place("fraud-1", Placement(numbers=(1, 3), next=4))]


def test_memory_is_judged_after_a_while_and_ever_more_patiently():
    """A limit below what the model needs at once costs a start now and then, not all the time."""
    settings = {"resources": {"memory": "100MiB"}}
    for next_number, patience in ((2, 10.0), (3, 20.0), (4, 40.0), (9, 60.0)):
        for age, actions in ((patience - 0.1, 0), (patience, 1)):
            scene = Scene(settings).revision(1, 2, S.SERVING, ready=1, numbers=(next_number - 1,), next=next_number)
            replica = f"fraud-1.{next_number - 1}"
            assert len(scene.see(replica, rss=101 * MIB).also(ages={replica: age}).decide()) == actions


def test_an_environment_that_moved_is_used():
    """The numbers stay; the executor starts the same replicas with the new interpreter."""
    scene = Scene().revision(1, 2, S.SERVING, ready=1).also(prepared={"sha256:2": Prepared(python="/new/python")})
    assert scene.decide() == [Place("fraud-1", Placement(numbers=(1,), next=2, python="/new/python"))]


def test_a_settled_deployment_needs_nothing():
    """Deciding again about a world that is as it should be does nothing: the tick may come as often as it likes."""
    scene = Scene({"also": [1]}).revision(1, 1, S.READY, ready=1).revision(2, 2, S.SERVING, ready=1)
    assert scene.decide() == []


def test_the_chain_of_states_ends():
    """Every state but RETIRED leads on, and none leads back to a start."""
    assert set(TRANSITIONS) == set(RevisionState)
    assert [state for state in RevisionState if not TRANSITIONS[state]] == [S.RETIRED]
    assert not any({S.PENDING, S.STARTING} & TRANSITIONS[state] for state in RevisionState if state is not S.PENDING)
