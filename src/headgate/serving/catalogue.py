"""What is served here: the routing table in force, as deployments and revisions, and what protocols may know of them."""

from __future__ import annotations

from collections.abc import Iterable

from headgate.clock import Clock
from headgate.errors import InvalidRequest, UnknownModel, did_you_mean
from headgate.journal import Pull, WishedModel, WishKind
from headgate.protocols.base import Later, Reply
from headgate.routes import RouteTable
from headgate.serving.administration import Administration
from headgate.serving.deployment import Deployment
from headgate.serving.kinds import revision_of
from headgate.serving.metrics import Metrics
from headgate.serving.mirror import Mirrors
from headgate.serving.outcomes import OutcomeStreams
from headgate.serving.revision import Revision
from headgate.serving.sequences import Sequences
from headgate.telemetry import Labels


class Catalogue:
    """`headgate.protocols.base.Catalogue`, as this gateway has it."""

    def __init__(self, clock: Clock, metrics: Metrics, administration: Administration | None = None) -> None:
        self.table = RouteTable(id=0)
        self.revisions: dict[str, Revision] = {}
        self.draining = False
        self.connections = 0
        """Open ones, kept up to date by the gateway."""
        self.administration = administration or Administration(False, clock.monotonic)
        self._by_name: dict[str, Deployment] = {}
        self._sequences: dict[str, Sequences] = {}
        """By deployment, open ones of all its revisions."""
        self.outcomes = OutcomeStreams(int(clock.wall() * 1e6))
        self.mirrors = Mirrors(clock.monotonic, metrics)
        self._metrics = metrics
        self._clock = clock

    def apply(self, table: RouteTable) -> None:
        """Make ``table`` the one in force. Omission means removal; what stays keeps its queue and its counters."""
        self.table = table
        old, self.revisions = self.revisions, {}
        deployments = {}
        self._sequences = {route.name: self._sequences.get(route.name, Sequences()) for route in table.deployments}
        for route in table.deployments:
            for entry in route.revisions:
                revision = old.pop(entry.name, None)
                if revision is None:
                    revision = revision_of(route, entry, self._metrics, self._clock.monotonic(), self._sequences[route.name])
                else:
                    revision.update(route, entry)
                self.revisions[entry.name] = revision
            mirror = self.mirrors.of(route, self.revisions)
            deployments[route.name] = Deployment(route, self.revisions, self._clock, self.outcomes.of(route), mirror)
        self.outcomes.keep(table)
        self.mirrors.keep(table)
        self._by_name = deployments
        for gone in old.values():
            gone.close()

    @property
    def ready(self) -> bool:
        """Whether everything that should serve would compute a request now."""
        # Before the first table nobody knows what should be served here.
        return not self.draining and self.table.id > 0 and all(deployment.ready for deployment in self._by_name.values())

    def deployment(self, name: str | None, version: str | None = None) -> Deployment:
        """Return the deployment called ``name``; None: the default one, else the only one. Raises `UnknownModel`, `InvalidRequest`.

        ``version`` is what the request names beside it: an error tells it on.
        """
        if name is None:
            name = self._default()
        found = self._by_name.get(name)
        if found is None:
            hint = did_you_mean(name, self._by_name) or f"; here are {sorted(self._by_name)}"
            raise UnknownModel(f"Request for unknown model: '{name[:200]}' is not found{hint}", name, version)
        return found

    def _default(self) -> str:
        """Whom a request means that names no deployment."""
        if self.table.default_deployment is not None:
            return self.table.default_deployment
        if len(self._by_name) == 1:
            return next(iter(self._by_name))
        raise InvalidRequest(
            f"this path names no model, and there is no default among {sorted(self._by_name)}; the server's owner can name one with "
            "--default-deployment"
        )

    def deployments(self) -> Iterable[Deployment]:
        """Return all deployments, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    @property
    def loadable(self) -> tuple[str, ...]:
        """Return the names of models that are registered and not deployed, where clients may load them."""
        return self.table.loadable

    def check_administration(self) -> None:
        """Raises `NotReady` where clients may not load and unload models."""
        self.administration.check()

    def wish(self, kind: WishKind, model: str, reply: Reply, models: tuple[WishedModel, ...] = ()) -> Later:
        """Have control load or unload a model, or a list of them: see `Administration.wish`."""
        return self.administration.wish(kind, model, reply, models)

    def pulled(self, pull: Pull, now: float) -> bytes:
        """Return the answer to control, which asks what has become of the requests of a rollout, and of their copies."""
        return self.outcomes.answer(pull, now, self.mirrors.report(pull))

    def expire_sequences(self, now: float) -> None:
        """Close sequences that have been idle for too long."""
        for sequences in self._sequences.values():
            sequences.expire(now)

    def metrics(self) -> str:
        """Return the Prometheus exposition."""
        by_revision: list[tuple[Labels, Revision]] = [
            ((("deployment", revision.deployment), ("revision", revision.name)), revision) for revision in self.revisions.values()
        ]
        gauges: list[tuple[str, str, dict[Labels, float]]] = [
            ("headgate_queue_rows", "Rows that wait for a replica.", {key: float(r.waiting.rows) for key, r in by_revision}),
            (
                "headgate_inflight_requests",
                "Requests accepted and not answered.",
                {key: float(r.inflight) for key, r in by_revision},
            ),
            ("headgate_replicas_ready", "Replicas that compute.", {key: float(len(r.links)) for key, r in by_revision}),
            ("headgate_replicas_expected", "Replicas there should be.", {key: float(r.route.expected) for key, r in by_revision}),
            (
                "headgate_sequences",
                "Open sequences of models that keep state.",
                {key: float(len(r.sequences.of(r))) for key, r in by_revision if r.sequences is not None},
            ),
            ("headgate_connections", "Open client connections.", {(): float(self.connections)}),
        ]
        return self._metrics.text(gauges)
