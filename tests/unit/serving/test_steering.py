"""Pins and keys of requests."""

from __future__ import annotations

from collections import Counter

import pytest

from headgate.errors import InvalidRequest, UnknownModel
from headgate.journal import Arm, OutcomeBit
from headgate.protocols.base import InferRequest
from headgate.routes import DeploymentRoute, RevisionRoute, RolloutRoute, Weight
from headgate.serving.deployment import Deployment
from headgate.serving.metrics import Metrics
from headgate.serving.outcomes import Decision, Outcomes
from headgate.serving.revision import Revision
from headgate.serving.steering import Steering, steering
from headgate.testing.clock import ManualClock


class PlayedLink:
    """A replica that is there, and has been for a while."""

    number, ready_since = 1, -60.0


def revision_route(name: str, version: int) -> RevisionRoute:
    return RevisionRoute(
        name=name,
        version=version,
        signature=b'{"inputs":[],"outputs":[]}',  # type: ignore[arg-type]
        platform="onnx",
        batch_timeout=10,
        max_rows=8,
        max_delay=0,
        max_queue_rows=100,
    )


def deployment(share: int, number: int = 1, candidate: bool = True) -> Deployment:
    """``m-1`` is the stable revision; the candidate ``m-2`` has ``share`` hundredths of a percent."""
    route = DeploymentRoute(
        name="m",
        model="m",
        timeout=30,
        split=(Weight(revision="m-1", share=10_000 - share), Weight(revision="m-2", share=share)),
        revisions=(revision_route("m-1", 1), revision_route("m-2", 2)),
        rollout=RolloutRoute(number=number, candidate="m-2", baseline="m-1"),
    )
    revisions = {entry.name: Revision(route, entry, Metrics(), 0.0) for entry in route.revisions}
    for name in ("m-1", "m-2") if candidate else ("m-1",):
        revisions[name].linked(PlayedLink())  # type: ignore[arg-type]
    return Deployment(route, revisions, ManualClock(), Outcomes())


def keyed(text: str) -> Steering:
    return Steering(None, text.encode())


def pinned(text: str) -> Steering:
    return Steering(text, None)


def decided(made: Deployment, revision: Revision, version: str | None = None, said: Steering | None = None) -> Decision | None:
    request = InferRequest.of(0)
    request.arrived, request.deadline = 1.0, 31.0
    return made.decided(revision, version, said, request)


def never() -> float:
    raise AssertionError("nothing is drawn for a key or a pin")


def test_most_requests_say_nothing() -> None:
    """Without one of our headers there is nothing to look at."""
    assert steering({"host": "a", "content-type": "b"}) is None
    assert steering({"x-headgate-key": "ann"}) == Steering(None, b"ann")
    assert steering({"x-headgate-revision": "stable"}) == Steering("stable", None)


@pytest.mark.parametrize("header", ["x-headgate-key", "x-headgate-revision"])
@pytest.mark.parametrize("value", ["", "x" * 201])
def test_too_long_and_empty_are_named(header: str, value: str) -> None:
    """The header is in the text."""
    with pytest.raises(InvalidRequest, match=f"{header}: expected 1 to 200 characters"):
        steering({header: value})


def test_a_key_always_goes_the_same_way() -> None:
    """The same user, the same revision, and about as many users as the weight says."""
    made = deployment(2_500)
    chosen = {f"user-{n}": made.choose(None, never, keyed(f"user-{n}")).name for n in range(4000)}
    assert all(made.choose(None, never, keyed(user)).name == name for user, name in chosen.items())
    assert 850 < Counter(chosen.values())["m-2"] < 1150


def test_whoever_has_the_candidate_keeps_it_while_its_share_grows() -> None:
    """1 %, 5 %, 50 %: nobody goes back."""
    before: set[str] = set()
    for share in (100, 500, 5_000):
        made = deployment(share)
        now = {f"{n}" for n in range(2000) if made.choose(None, never, keyed(f"{n}")).name == "m-2"}
        assert before <= now
        before = now


def test_another_rollout_draws_other_users() -> None:
    """The same users are not always the first."""
    first, second = deployment(1_000, number=1), deployment(1_000, number=2)
    users = range(2000)
    one = {n for n in users if first.choose(None, never, keyed(str(n))).name == "m-2"}
    two = {n for n in users if second.choose(None, never, keyed(str(n))).name == "m-2"}
    assert len(one & two) < len(one) / 2


@pytest.mark.parametrize(("pin", "name"), [("candidate", "m-2"), ("stable", "m-1"), ("m-2", "m-2")])
def test_a_pin_is_followed(pin: str, name: str) -> None:
    """By role or by name; and a version in the path does not matter then."""
    assert deployment(0).choose(None, never, pinned(pin)).name == name
    assert deployment(0).choose("1", never, pinned(pin)).name == name


def test_a_pin_to_nobody_is_refused() -> None:
    """What is there is named."""
    with pytest.raises(UnknownModel, match=r"x-headgate-revision: 'm' has no revision 'm-7'; there are: m-1, m-2"):
        deployment(0).choose(None, never, pinned("m-7"))


def test_what_was_no_matter_of_chance_is_not_judged() -> None:
    """Pins, by header or by version, have no outcome in the stream."""
    made = deployment(1_000)
    revision = made.choose("2", never)
    assert decided(made, revision, version="2") is None
    assert decided(made, revision, said=pinned("candidate")) is None
    decision = decided(made, revision, said=keyed("ann"))
    assert decision is not None and decision.key and decision.arm == Arm.CANDIDATE and decision.weight == 0.1


def test_a_candidate_without_replicas_gets_nothing_and_is_said_to() -> None:
    """Its share is answered by the stable revision, and the weight in force is 0: it could not have been drawn."""
    made = deployment(9_000, candidate=False)
    assert {made.choose(None, lambda at=at: at / 100).name for at in range(100)} == {"m-1"}
    decision = decided(made, made.choose(None, lambda: 0.99))
    assert decision is not None and (decision.weight, decision.arm) == (0.0, Arm.BASELINE)
    assert made.ready


def test_the_first_seconds_of_a_replica_do_not_count() -> None:
    """That is known at the decision, whatever becomes of the request."""
    made = deployment(1_000)
    revision = made.choose("2", never)
    assert decided(made, revision).bits == 0  # type: ignore[union-attr]
    fresh = PlayedLink()
    fresh.ready_since = 0.5
    revision.linked(fresh)  # type: ignore[arg-type]
    assert decided(made, revision).bits == OutcomeBit.WARMUP  # type: ignore[union-attr]
