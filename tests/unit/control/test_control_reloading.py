"""A list of models that a client wants to be served, and what the tick makes of it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from control_world import ControlWorld, FakeRegistry

from headgate.errors import NotFound
from headgate.journal import Wish, WishedModel, WishKind
from headgate.routes import WishAnswer
from headgate.spec import parse_spec
from headgate.testing.executors import Script

MODELS = ("churn", "fraud")


class Named(NamedTuple):
    """A model, as the registry lists it."""

    name: str


class Kept(NamedTuple):
    """A version."""

    model: str
    number: int
    digest: str
    note: str

    @property
    def reference(self) -> str:
        """``fraud@3``."""
        return f"{self.model}@{self.number}"


class Registry(FakeRegistry):
    """It knows two models, registered from folders of those names."""

    def models(self) -> list[Named]:
        return [Named(name) for name in MODELS]

    def version(self, reference: str):
        self.model(reference.partition("@")[0])
        found = super().version(reference)
        return Kept(found.model, found.number, found.digest, f"/models/{found.model}/{found.number:05}")

    def versions(self, name: str):
        self.model(name)
        return [self.version(f"{name}@{number}") for number in range(1, 10)]

    def model(self, name: str):
        if name not in MODELS:
            raise NotFound(f"model '{name}': there is no such model")
        return super().model(name)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        self.aliases[alias] = number


@pytest.fixture
def explicit(world: ControlWorld) -> ControlWorld:
    """A control plane that listens to wishes."""
    world.registry = Registry()
    world.model_control = True
    world.restart()
    return world


def reload(world: ControlWorld, *models: WishedModel, number: int = 1, seconds: float = 1.0) -> WishAnswer | None:
    """Wish for a list, and return the answer, if it has come by then."""
    world.gateway.wished[number] = Wish(number=number, kind=WishKind.RELOAD, models=models)
    world.tick()
    world.pass_time(seconds)
    return next((answer for answer in world.gateway.answers if answer.number == number), None)


def deployed(world: ControlWorld) -> dict[str, str]:
    """Return the state of every revision that is left."""
    return world.revisions("churn") | world.revisions("fraud")


def refused(world: ControlWorld, *models: WishedModel) -> WishAnswer:
    """Return the answer to a list of which nothing may be done."""
    before = deployed(world)
    answer = reload(world, *models, number=99)
    assert answer is not None and answer.error.startswith("failed to reload the configuration: ")
    assert deployed(world) == before
    world.gateway.answers.remove(answer)
    return answer


def version(world: ControlWorld, revision: str) -> int:
    """Return the version that a revision serves."""
    return world.revision(revision).target.version


def test_what_is_listed_is_loaded_and_what_is_not_is_ended(explicit):
    """The newest versions, once all of them serve; the next list replaces this one."""
    assert reload(explicit, WishedModel(name="churn"), WishedModel(name="fraud")) == WishAnswer(number=1)
    assert deployed(explicit) == {"churn-1": "serving", "fraud-1": "serving"}
    assert version(explicit, "churn-1") == 9
    assert reload(explicit, WishedModel(name="fraud"), number=2) == WishAnswer(number=2)
    assert deployed(explicit) == {"fraud-1": "serving"}
    assert reload(explicit, number=3) == WishAnswer(number=3)
    assert deployed(explicit) == {}


def test_the_answer_waits_for_all_of_them(explicit):
    """Also for what is kept warm."""
    explicit.packages.preparing.add("sha256:fraud-4")
    entry = WishedModel(name="fraud", versions=(4, 7))
    assert reload(explicit, entry) is None
    explicit.packages.preparing.clear()
    explicit.pass_time(1.0)
    assert explicit.gateway.answers == [WishAnswer(number=1)]


def test_a_policy_says_which_versions(explicit):
    """The highest of them gets the traffic, and the others stay warm beside it."""
    assert reload(explicit, WishedModel(name="fraud", versions=(7, 4))) == WishAnswer(number=1)
    spec = explicit.store.deployment("fraud").spec
    assert (spec.model, spec.also) == ("fraud@7", (4,))
    assert sorted(deployed(explicit).values()) == ["ready", "serving"]
    reload(explicit, WishedModel(name="fraud", newest=2), number=2)
    spec = explicit.store.deployment("fraud").spec
    assert (spec.model, spec.also) == ("fraud@9", (8,))
    reload(explicit, WishedModel(name="fraud", newest=(1 << 31) - 1), number=3)
    assert explicit.store.deployment("fraud").spec.also == tuple(range(1, 9))


def test_without_a_policy_what_is_deployed_stays_as_it_is(explicit):
    """Its version and its settings: whoever adds a model to the list deploys nothing else by it."""
    explicit.put("fraud@3", timeout="7s")
    explicit.pass_time(1.0)
    assert reload(explicit, WishedModel(name="fraud"), WishedModel(name="churn")) == WishAnswer(number=1)
    found = explicit.revision("fraud-1").target
    assert (found.version, found.spec.timeout) == (3, 7.0)
    reload(explicit, WishedModel(name="churn"), number=2)
    reload(explicit, WishedModel(name="fraud"), number=3)
    found = explicit.revision("fraud-2").target
    assert (found.version, found.spec.timeout) == (9, 7.0), "one that comes back is the newest, with its settings"


def test_labels_become_aliases(explicit):
    """Once their versions serve, and the gateways know of them when the client is told."""
    told = []
    answer = explicit.gateway.answer
    explicit.gateway.answer = lambda said: (told.append(dict(explicit.gateway.sent.deployments[0].aliases)), answer(said))
    entry = WishedModel(name="fraud", versions=(4, 7), labels=(("canary", 7), ("stable", 4)))
    assert reload(explicit, entry) == WishAnswer(number=1)
    assert explicit.registry.aliases == {"canary": 7, "stable": 4} and told == [explicit.registry.aliases]
    moved = WishedModel(name="fraud", versions=(4, 7), labels=(("stable", 7),))
    assert reload(explicit, moved, number=2) == WishAnswer(number=2)
    assert explicit.registry.aliases == {"canary": 7, "stable": 7}, (
        "a label that is not listed stays: it may be somebody else's alias"
    )


def test_a_label_of_a_version_that_is_not_served(explicit):
    """Refused in TensorFlow Serving's words, and with its code."""
    answer = refused(explicit, WishedModel(name="fraud", versions=(4, 7), labels=(("stable", 5),)))
    assert "Request to assign label to version 5 of model fraud, which is not currently available for inference" in answer.error
    assert answer.code == "failed_precondition"
    assert "alias: expected a name that is not a number" in refused(explicit, WishedModel(name="fraud", labels=(("5", 9),))).error
    assert explicit.registry.aliases == {}


def test_a_folder_is_compared_and_never_read(explicit):
    """It must be where every version that would be served was registered from."""
    for path in ("/models/fraud", "/models/fraud/"):
        assert reload(explicit, WishedModel(name="fraud", base_path=path)) == WishAnswer(number=1)
        explicit.gateway.answers.clear()
    for path in ("/models", "/models/churn", "/etc", "/models/fraud/../fraud", "gs://models/fraud"):
        answer = refused(explicit, WishedModel(name="fraud", base_path=path))
        assert f"model_config_list.config[0].base_path: fraud@9 was not registered from '{path}'" in answer.error


def test_what_is_not_registered(explicit):
    """A model or a version: nothing of the list is done, and the entry is named."""
    assert "there is no such model" in refused(explicit, WishedModel(name="fraud"), WishedModel(name="nobody")).error
    answer = refused(explicit, WishedModel(name="churn"), WishedModel(name="fraud", versions=(4, 70)))
    assert "config[1].model_version_policy.specific.versions: [70] are not registered" in answer.error


def test_a_model_that_cannot_be_loaded(explicit):
    """Answered with the replica's words; it is not left behind, the others are served, and what was deployed before stays."""
    explicit.put("churn@3")
    explicit.pass_time(1.0)
    explicit.behaviours["sha256:fraud-9"] = Script(refuses="needs a newer tensorflow")
    answer = reload(explicit, WishedModel(name="churn"), WishedModel(name="fraud"))
    assert answer is not None
    assert answer.error == "load failed for model 'fraud': version 9 is at UNAVAILABLE state: needs a newer tensorflow"
    explicit.pass_time(1.0)
    assert deployed(explicit) == {"churn-1": "serving"}


def test_a_deployment_of_another_model(explicit):
    """Its name stands for the model it has, as everywhere; the labels are that model's."""
    explicit.store.put(parse_spec({"name": "live", "model": "fraud@2"}))
    explicit.pass_time(1.0)
    entry = WishedModel(name="live", base_path="/models/fraud", versions=(2, 3), labels=(("stable", 2),))
    assert reload(explicit, entry) == WishAnswer(number=1)
    assert explicit.store.deployment("live").spec.model == "fraud@3" and explicit.registry.aliases == {"stable": 2}


def test_a_control_that_was_killed_goes_on(explicit):
    """The new one finds the wish at the gateway, and carries it out again, which does no harm."""
    reload(explicit, WishedModel(name="fraud"), seconds=0.0)
    explicit.restart()
    explicit.pass_time(1.0)
    assert explicit.gateway.answers == [WishAnswer(number=1)]
    assert deployed(explicit) == {"fraud-1": "serving"}


def test_where_nobody_may_nothing_is_done(world):
    """A gateway that asks all the same is refused."""
    world.put("fraud@3")
    world.pass_time(1.0)
    assert "--model-control explicit" in refused(world).error
