"""Requests without sockets: the gateway's own routing and outcome stream, control's own engine and judge, on a manual clock.

Only what lies between is played: what a model answers, and how long it takes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from control_world import ControlWorld

from headgate.errors import ModelFailed
from headgate.journal import LinkState, Outcomes, Pull, decode_outcomes
from headgate.protocols.base import Batch, InferRequest
from headgate.serving.catalogue import Catalogue
from headgate.serving.metrics import Metrics
from headgate.serving.revision import Revision
from headgate.serving.steering import Steering


class Model(NamedTuple):
    """How a version behaves."""

    errors: float = 0.0
    """Share of requests that fail."""
    invalid: float = 0.0
    """Share of answers that are no numbers."""
    seconds: float = 0.01
    """Median time to the answer; times are log-normal."""


class PlayedLink:
    """A replica that is there."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.ready_since = now
        self.batch: list[InferRequest] = []


class Traffic:
    """A control plane, and clients of what it has deployed."""

    def __init__(self, world: ControlWorld, seed: int = 0) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.models: dict[int, Model] = {}
        """By version; one that is not named is good."""
        self.environment = Model()
        """What is wrong with every version alike."""
        self.served: Counter[str] = Counter()
        """Requests by revision."""
        self.failed: Counter[str] = Counter()
        """Of these, those that failed."""
        self.key: Callable[[], bytes | None] = lambda: None
        """Who asks."""
        self._catalogue = Catalogue(world.clock, Metrics())
        self._table = -1
        self._asked: dict[str, Pull] = {}
        gateway: Any = world.gateway
        gateway.pull, gateway.pulled = self._pull, self._pulled

    def deploy(self, model: str, **rollout: Any) -> None:
        """Ask for a version."""
        self.world.put(model, rollout=rollout)

    def run(self, seconds: float, rate: float) -> None:
        """Let time pass with ``rate`` requests a second, a tick each second."""
        for _ in range(round(seconds)):
            self._follow()
            for _ in range(round(rate)):
                self._request()
            self.world.pass_time(1.0, 1.0)

    @property
    def rollout(self) -> Any:
        """The newest one."""
        return self.world.store.load().rollouts["fraud"]

    def chosen(self, steering: Steering) -> Revision:
        """Return who would answer a request that says ``steering``."""
        self._follow()
        return self._catalogue.deployment("fraud").choose(None, self.random.random, steering)

    def _follow(self) -> None:
        """Put the newest table in force, as a gateway does."""
        table = self.world.gateway.sent
        if table is not None and table.id != self._table:
            self._table = table.id
            self._catalogue.apply(table)
        now = self.world.clock.monotonic()
        for name, revision in self._catalogue.revisions.items():
            ready = [link for link in self.world.executor.links() if link.revision == name and link.state is LinkState.READY]
            if len(revision.links) != len(ready):
                revision.links.clear()
                for number, _ in enumerate(ready, 1):
                    revision.linked(PlayedLink(number, now))  # type: ignore[arg-type]

    def _request(self) -> None:
        deployment = self._catalogue.deployment("fraud")
        key = self.key()
        steering = None if key is None else Steering(None, key)
        revision = deployment.choose(None, self.random.random, steering)
        request, now = InferRequest.of(0), self.world.clock.monotonic()
        request.arrived, request.deadline = now, now + 30
        decision = deployment.decided(revision, None, steering, request)
        self.served[revision.name] += 1
        model = self.models.get(int(revision.version), Model())
        failed = self.random.random() < model.errors + self.environment.errors
        self.failed[revision.name] += failed
        if decision is None:
            return
        taken = model.seconds * self.environment.seconds / 0.01 * self.random.lognormvariate(0.0, 0.25)
        if failed:
            decision.replica = revision.links[0].number
            decision.failed(ModelFailed("no"), now + taken)
            return
        if self.random.random() < model.invalid:
            decision.invalid()
        link = self.random.choice(revision.links)
        decision.answered(Batch(taken / 2, 1, now + taken, link.number))

    def _pull(self, deployment: str, rollout: int, after: int, most: int) -> None:
        self._asked[deployment] = Pull(deployment=deployment, rollout=rollout, after=after, most=most)

    def _pulled(self, deployment: str) -> Outcomes | None:
        pull = self._asked.pop(deployment, None)
        if pull is None:
            return None
        found = decode_outcomes(self._catalogue.outcomes.answer(pull, self.world.clock.monotonic()))
        return found._replace(head=type(found.head)(deployment=deployment, rollout=found.head.rollout, epoch=0))
