"""What clients of the inference port wish for, and what the tick makes of it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from control_world import ControlWorld, FakeRegistry

from headgate.errors import NotFound
from headgate.journal import Wish, WishKind
from headgate.routes import WishAnswer
from headgate.spec import parse_spec
from headgate.testing.executors import Script


class Named(NamedTuple):
    """A model, as the registry lists it."""

    name: str


class Registry(FakeRegistry):
    """It knows two models."""

    def models(self) -> list[Named]:
        return [Named("churn"), Named("fraud")]

    def version(self, reference: str):
        self.model(reference.partition("@")[0])
        return super().version(reference)

    def model(self, name: str):
        if name not in ("churn", "fraud"):
            raise NotFound(f"model '{name}': there is no such model")
        return super().model(name)


@pytest.fixture
def explicit(world: ControlWorld) -> ControlWorld:
    """A control plane that listens to wishes."""
    world.registry = Registry()
    world.model_control = True
    world.restart()
    return world


def wish(world: ControlWorld, kind: WishKind, model: str, number: int = 1) -> None:
    world.gateway.wished[number] = Wish(number=number, kind=kind, model=model)
    world.tick()


def load(world: ControlWorld, model: str = "fraud", number: int = 1) -> None:
    wish(world, WishKind.LOAD, model, number)


def unload(world: ControlWorld, model: str = "fraud", number: int = 1) -> None:
    wish(world, WishKind.UNLOAD, model, number)


def test_a_load_deploys_the_newest_version_and_waits_for_it(explicit):
    """The answer comes with the traffic, not before, and once."""
    load(explicit)
    assert explicit.gateway.answers == []
    explicit.pass_time(1.0)
    assert explicit.gateway.answers == [WishAnswer(number=1)]
    assert explicit.split() == {"fraud-1": 10_000}
    assert explicit.revision("fraud-1").target.version == 9
    explicit.pass_time(2.0)
    assert len(explicit.gateway.answers) == 1


def test_the_table_is_out_before_the_answer(explicit):
    """Whoever is told that a model is loaded finds it at the gateway."""
    order = []
    publish, answer = explicit.gateway.publish, explicit.gateway.answer
    explicit.gateway.publish = lambda table: (order.append(bool(table.deployments and table.deployments[0].split)), publish(table))
    explicit.gateway.answer = lambda said: (order.append("answer"), answer(said))
    load(explicit)
    explicit.pass_time(1.0)
    assert order.index("answer") > order.index(True)


def test_what_is_deployed_stays_as_it_is(explicit):
    """No newer version, no other setting; the answer comes at once."""
    explicit.put("fraud@3", timeout="7s")
    explicit.pass_time(1.0)
    load(explicit)
    assert explicit.gateway.answers == [WishAnswer(number=1)]
    assert explicit.revisions() == {"fraud-1": "serving"}
    assert explicit.revision("fraud-1").target.version == 3


def test_an_unload_ends_the_deployment(explicit):
    """Answered at once; the requests under way finish, and nothing is left in the end."""
    load(explicit)
    explicit.pass_time(1.0)
    explicit.gateway.inflight["fraud-1"] = 1
    unload(explicit, number=2)
    assert explicit.gateway.answers[-1] == WishAnswer(number=2)
    assert explicit.revisions() == {"fraud-1": "draining"}
    explicit.gateway.inflight.clear()
    explicit.pass_time(1.0)
    assert explicit.running() == []


def test_loading_again_keeps_the_settings(explicit):
    """A deployment that was unloaded comes back as it was asked for last, with the newest version."""
    explicit.put("fraud@3", timeout="7s")
    explicit.pass_time(1.0)
    unload(explicit)
    explicit.pass_time(1.0)
    load(explicit, number=2)
    explicit.pass_time(1.0)
    found = explicit.revision("fraud-2").target
    assert (found.version, found.spec.timeout) == (9, 7.0)
    assert explicit.gateway.answers[-1] == WishAnswer(number=2)


def test_a_name_that_served_another_model_starts_afresh(explicit):
    """The settings of a deployment belong to its model."""
    explicit.store.put(parse_spec({"name": "fraud", "model": "churn@2", "timeout": "7s"}))
    explicit.pass_time(1.0)
    unload(explicit)
    explicit.pass_time(1.0)
    load(explicit, number=2)
    explicit.pass_time(1.0)
    found = explicit.revision("fraud-2").target
    assert (found.digest, found.spec.timeout) == ("sha256:fraud-9", 30.0)


def test_a_model_that_cannot_be_loaded(explicit):
    """Answered with the replica's words; no broken deployment stays behind; another load is another try."""
    explicit.behaviours["sha256:fraud-9"] = Script(refuses="needs a newer onnxruntime")
    load(explicit)
    explicit.pass_time(1.0)
    (said,) = explicit.gateway.answers
    assert said.error == "load failed for model 'fraud': version 9 is at UNAVAILABLE state: needs a newer onnxruntime"
    explicit.tick()
    assert explicit.revisions() == {} and explicit.gateway.sent.loadable == ("churn", "fraud")
    explicit.behaviours.clear()
    load(explicit, number=2)
    assert len(explicit.gateway.answers) == 1
    explicit.pass_time(1.0)
    assert explicit.gateway.answers[1] == WishAnswer(number=2)


def test_a_deployment_that_had_failed_before_stays(explicit):
    """Its owner wants to see why: a load that fails again takes nothing away."""
    explicit.behaviours["sha256:fraud-3"] = Script(refuses="too old")
    explicit.put("fraud@3")
    explicit.pass_time(1.0)
    load(explicit)
    explicit.pass_time(1.0)
    assert "version 3 is at UNAVAILABLE state: too old" in explicit.gateway.answers[0].error
    assert explicit.revisions() == {"fraud-2": "failed"}


def test_a_model_that_nobody_knows(explicit):
    """Neither loaded nor unloaded; one that is registered and not deployed is unloaded already."""
    load(explicit, "nobody")
    unload(explicit, "nobody", 2)
    unload(explicit, "churn", 3)
    texts = [answer.error for answer in explicit.gateway.answers]
    assert texts == [
        "failed to load 'nobody': model 'nobody': there is no such model",
        "failed to unload 'nobody': model 'nobody': there is no such model",
        "",
    ]


def test_an_unload_ends_a_load_that_waits(explicit):
    """Whoever waits for the load is told so."""
    load(explicit)
    unload(explicit, number=2)
    assert explicit.gateway.answers[0].error == "load failed for model 'fraud': it was unloaded meanwhile"
    assert explicit.gateway.answers[1] == WishAnswer(number=2)


def test_a_control_that_was_killed_goes_on(explicit):
    """The new one finds the wish at the gateway and what the old one began in the database; the version is not chosen anew."""
    load(explicit)
    explicit.restart()
    explicit.pass_time(1.0)
    assert explicit.gateway.answers == [WishAnswer(number=1)]
    assert explicit.revisions() == {"fraud-1": "serving"}


def test_a_gateway_without_wishes_is_forgotten_nothing(explicit):
    """A wish under a number that was used before is a new one once the old one is gone."""
    load(explicit)
    explicit.pass_time(1.0)
    unload(explicit, number=2)
    explicit.pass_time(1.0)
    load(explicit)
    explicit.pass_time(1.0)
    assert explicit.revisions()["fraud-2"] == "serving"


def test_where_nobody_may_nothing_is_done(world):
    """A gateway that asks all the same is refused, and the table names no model that could be loaded."""
    load(world)
    (said,) = world.gateway.answers
    assert "--model-control explicit" in said.error
    assert world.revisions() == {} and world.gateway.sent.loadable == ()


def test_the_table_names_what_could_be_loaded(explicit):
    """Registered and not deployed."""
    explicit.tick()
    assert explicit.gateway.sent.loadable == ("churn", "fraud")
    load(explicit)
    explicit.pass_time(1.0)
    assert explicit.gateway.sent.loadable == ("churn",)
