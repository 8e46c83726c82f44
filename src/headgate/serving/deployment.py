"""One deployment as its gateway knows it: which of its revisions a request gets."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

from headgate.clock import Clock
from headgate.errors import NotReady, UnknownModel
from headgate.journal import Arm, OutcomeBit
from headgate.protocols.base import InferRequest, Plan, Statistics, VersionState
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.mirror import Mirror
from headgate.serving.outcomes import Decision, Outcomes
from headgate.serving.revision import Revision
from headgate.serving.statistics import of_version
from headgate.serving.steering import Steering, bucket, hashed

WHOLE = 10_000
"""The shares of a split add up to this."""


class Deployment:
    """Made anew with every routing table; the revisions in it live on."""

    __slots__ = (
        "_arms",
        "_bounds",
        "_by_version",
        "_clock",
        "_only",
        "_order",
        "_revisions",
        "_salt",
        "_share",
        "mirror",
        "name",
        "outcomes",
        "route",
        "timeout",
    )

    def __init__(
        self,
        route: DeploymentRoute,
        revisions: Mapping[str, Revision],
        clock: Clock,
        outcomes: Outcomes | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.route = route
        self.name = route.name
        self.timeout = route.timeout
        split = [weight for weight in route.split if weight.share]
        self._order = [revisions[weight.revision] for weight in split]
        self._bounds = list(accumulate(weight.share for weight in split))
        self._only = self._order[0] if len(self._order) == 1 else None
        self._revisions = [revisions[entry.name] for entry in route.revisions]
        # Newest last in the table, so that of several revisions of one version the newest stays.
        self._by_version = {revision.version: revision for revision in self._revisions}
        self._clock = clock
        self.outcomes = outcomes
        """Where they are told while a rollout is under way."""
        self.mirror = mirror
        """Who copies requests for a shadow, while one is on."""
        rollout = route.rollout
        self._arms = {} if rollout is None else {rollout.candidate: Arm.CANDIDATE, rollout.baseline: Arm.BASELINE}
        self._share = sum(weight.share for weight in split if rollout is not None and weight.revision == rollout.candidate) / WHOLE
        """The candidate's, 0 to 1."""
        self._salt = b"" if rollout is None else f"{route.name}/{rollout.number}".encode()

    def choose(self, version: str | None, draw: Callable[[], float], steering: Steering | None = None) -> Revision:
        """Return the revision for one request: the one it asks for, else one by the weights and its key, or ``draw`` in [0, 1).

        Raises `UnknownModel` for a version or revision that is not served and `NotReady` while nothing is.
        """
        if steering is not None:
            if steering.revision is not None:
                return self._named(steering.revision)
            if version is None and steering.key is not None and len(self._order) > 1:
                return self._at(bucket(hashed(self._salt, steering.key)))
        if version is not None:
            return self._pinned(version)
        if self._only is not None:
            return self._only
        if not self._order:
            raise NotReady(f"model '{self.name}' is not at ready state: no revision of it serves yet; retry later")
        return self._at(int(draw() * WHOLE))

    def _at(self, place: int) -> Revision:
        """Return whose share ``place``, of 0 to 9,999, falls into. The candidate's is at the end, so it only gains as it grows."""
        drawn = self._order[bisect_right(self._bounds, place)]
        # A candidate whose replicas have gone costs nobody his answer: the stable revision comes first in a split.
        return drawn if drawn.links else self._order[0]

    def decided(self, revision: Revision, version: str | None, steering: Steering | None, request: InferRequest) -> Decision | None:
        """Return where the outcome of a request is to be written that was sent to ``revision``; None where it was no matter of chance."""
        rollout, arm = self.route.rollout, self._arms.get(revision.name)
        if self.outcomes is None or rollout is None or arm is None or version is not None:
            return None
        if steering is not None and steering.revision is not None:
            return None
        # While the candidate has no replica nothing can be drawn for it.
        weight = self._share if len(self._order) < 2 or self._order[-1].links else 0.0
        key = hashed(self._salt, steering.key) if steering is not None and steering.key is not None else 0
        decision = self.outcomes.decide(request, arm, weight, key, rollout)
        if request.arrived < revision.warm_at:
            # Known before there is an outcome: were it said of answers alone, or of errors, the others would count too much.
            decision.bits = OutcomeBit.WARMUP
        return decision

    def _named(self, name: str) -> Revision:
        rollout = self.route.rollout
        stable = self._order[0].name if self._order else None
        wanted = {"stable": rollout.baseline if rollout else stable, "candidate": rollout.candidate if rollout else None}.get(
            name, name
        )
        found = next((revision for revision in self._revisions if revision.name == wanted), None)
        if found is None:
            there = ", ".join(revision.name for revision in self._revisions) or "none"
            why = "no rollout is under way" if name == "candidate" and rollout is None else f"there are: {there}"
            raise UnknownModel(f"x-headgate-revision: '{self.name}' has no revision {name[:100]!r}; {why}", self.name, None)
        return found

    def _pinned(self, version: str) -> Revision:
        found = self._by_version.get(version)
        if found is None and version in self.route.aliases:
            found = self._by_version.get(str(self.route.aliases[version]))
        if found is None:
            served = ", ".join(map(str, self.versions())) or "none"
            raise UnknownModel(
                f"Request for unknown model: '{self.name}' version {version[:50]} is not found; versions served: {served}",
                self.name,
                version,
            )
        return found

    # ---- protocols.base.DeploymentView

    @property
    def ready(self) -> bool:
        """Whether any request would be computed now: the stable revision takes those of a candidate that cannot."""
        return bool(self._order) and self._order[0].ready

    @property
    def dialect(self) -> str:
        """Of its ``/v1`` paths."""
        return self.route.v1

    def versions(self) -> list[int]:
        """Return the registry versions that can be asked for by number, ascending."""
        return sorted(int(version) for version in self._by_version)

    def number(self, version: str | None) -> int:
        """Return which registry version a version or alias is, or the first revision of the split."""
        return (self._pinned(version) if version is not None else self._any()).route.version

    def plan(self, version: str | None) -> Plan:
        """Return the plan of a version, or of the first revision of the split."""
        return (self._pinned(version) if version is not None else self._any()).plan

    def version_ready(self, version: str | None) -> bool:
        """Return whether a request for ``version`` would be computed now."""
        return self._pinned(version).ready if version is not None else self.ready

    def example(self) -> Any:
        """Return the input example of the first revision of the split, or None."""
        data = self._any().route.example
        return json.loads(data) if data else None

    def platform(self, version: str | None) -> str:
        """Return the runtime of a version, or of the first revision of the split."""
        return self.served(version).platform

    def served(self, version: str | None) -> RevisionRoute:
        """Return the route of a version, or of the first revision of the split."""
        return (self._pinned(version) if version is not None else self._any()).route

    def states(self) -> list[VersionState]:
        """Return how each version is, ascending."""
        return [VersionState(number, not why, why) for number in self.versions() for why in [self._trouble(str(number))]]

    def statistics(self) -> list[Statistics]:
        """Return what was counted of each version, ascending."""
        epoch = self._clock.wall() - self._clock.monotonic()
        return [
            of_version(number, [revision for revision in self._revisions if revision.version == str(number)], epoch)
            for number in self.versions()
        ]

    def _trouble(self, version: str) -> str:
        """Say why a version is not ready; nothing if it is."""
        if not self._order:
            return "no traffic goes to it: it has just come, or is about to go"
        revision = self._by_version[version]
        return "" if revision.ready else f"no replica of {revision.name} answers"

    def _any(self) -> Revision:
        if self._order:
            return self._order[0]
        if self._by_version:
            return next(reversed(self._by_version.values()))
        raise NotReady(f"model '{self.name}' is not at ready state: no revision of it is there yet; retry later")
