"""The tick: observe, decide, act. The only place from which control causes anything.

A tick needs no memory of the last one: what it must not forget lies in the database. What it does remember (how long something has
been so, the last good answer) only makes it slower or more careful when it is missing. A tick may be killed between any two lines.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from headgate.clock import Clock
from headgate.control.compatible import between
from headgate.control.decide import decide
from headgate.control.judging import Judges, Pulling
from headgate.control.model import (
    DONE_WITH,
    PLACED,
    ROUTED,
    WANTABLE,
    Deployment,
    Prepared,
    Refused,
    Revision,
    Target,
    View,
    pin,
)
from headgate.control.packages import Packages
from headgate.control.recent import Recent
from headgate.control.rollout import Judged, Rollout
from headgate.control.routing import Machine, deployment_route, replica_specs
from headgate.control.store import Desired, Store
from headgate.control.wishes import Wishes, Wishing
from headgate.errors import HeadgateError, NotFound, SpecError
from headgate.executors.base import Executor, ObservedReplica, ReplicaSpec
from headgate.home import write_atomically
from headgate.journal import LinkState, LoadReport, ReplicaReport
from headgate.registry.keys import KeyHash
from headgate.registry.registry import Registry
from headgate.routes import DeploymentRoute, KeyRoute, RouteTable, decode_table, encode_table
from headgate.spec import parse_reference

ROUNDS = 8
"""Decisions that may follow from each other within one tick; what is left waits for the next."""

_RANK = {LinkState.READY: 0, LinkState.LOADING: 1, LinkState.FAILED: 2, LinkState.LOST: 3}


class Gateway(Wishing, Pulling, Protocol):
    """The gateway as control sees it."""

    @property
    def failures(self) -> Mapping[str, str]:
        """Words of the replicas that said FAILED, by id; remembered, because such a replica ends at once."""
        ...

    def publish(self, table: RouteTable) -> None:
        """Send it a routing table, now and whenever it comes back."""
        ...


class World(NamedTuple):
    """What a tick looks at and acts upon."""

    store: Store
    registry: Registry
    packages: Packages
    executor: Executor
    gateway: Gateway
    clock: Clock


class Setting(NamedTuple):
    """What does not change while control runs."""

    machine: Machine
    routes: Path
    """Where the routing table is kept for a gateway that starts without control."""
    default_deployment: str | None = None
    model_control: bool = False
    """Whether clients of the inference port may load and unload models."""


class Reconciler:
    """Lets the actual state follow the desired one, a step with every `tick`. One thread calls it."""

    def __init__(self, world: World, setting: Setting) -> None:
        self._world = world
        self._setting = setting
        self._table = _last_table(setting.routes)
        self._sent = False
        self._kept = True
        """Whether the table is on disk as it was sent."""
        self._since: dict[str, float] = {}
        """Since when a revision is in its state, or a replica ready: the keys say which."""
        self._specs: dict[str, list[ReplicaSpec]] = {}
        self.views: dict[str, View] = {}
        """By deployment, as of the last tick."""
        self.errors: dict[str, str] = {}
        """Deployment -> what went wrong in deciding about it."""
        self.trouble = ""
        """Why the last tick was not finished; empty if it was."""
        self._complaint = ""
        self._judges = Judges(world.store, world.gateway, world.clock)
        self._judged: dict[str, Judged] = {}
        """What the judge says of each rollout under way, as of this tick."""
        self._recent = Recent()
        self._wishes = Wishes(setting.model_control, world.gateway, world.store, world.registry)
        self.keys: tuple[KeyHash, ...] | None = None
        """The good keys; None until they were read once."""

    @property
    def report(self) -> LoadReport | None:
        """What the gateway last said of itself."""
        return self._world.gateway.report

    def dialect(self, deployment: str) -> str | None:
        """Return the dialect of a deployment's ``/v1`` paths, as the gateway was last told; None if it was not told of it."""
        return next((route.v1 for route in self._table.deployments if route.name == deployment), None)

    def try_tick(self) -> None:
        """`tick`, and live on whatever happens: the next one looks at everything anew."""
        try:
            self.tick()
            self._complaint = self.trouble = ""
        except Exception as error:
            if self._complaint != repr(error):
                print("this tick was not finished, the next one tries again", file=sys.stderr)
                traceback.print_exc()
            self._complaint, self.trouble = repr(error), _in_words(error)

    def tick(self) -> None:
        """Look, decide and act until nothing follows any more."""
        keys = self._world.registry.keys.hashes()
        if self.keys is not None:  # whatever becomes of this tick, a revoked key is refused
            self.keys = keys
        self._wishes.begin()
        if (report := self._world.gateway.report) is not None:
            self._recent.note(report, self._world.clock.monotonic())
        self._judged = self._judges.look(self._world.store.load().rollouts)
        for _ in range(ROUNDS):
            desired = self._world.store.load()
            changed = self._decide(desired)
            if not changed:
                break
        else:
            desired = self._world.store.load()
        # The first keys open the door, so only now that there is something to see: the views.
        self.keys = keys
        # Routes first: nobody may be sent to a replica that is about to end.
        self._publish(desired)
        self._keep_table()
        self._apply(desired)
        self._wishes.answer(self.views)

    # ---- observe

    def _decide(self, desired: Desired) -> bool:
        """Decide about every deployment; tell whether anything was written."""
        observed, report = self._world.executor.observe(), self._world.gateway.report
        in_use = [
            revision for revisions in desired.revisions.values() for revision in revisions if revision.state in WANTABLE | PLACED
        ]
        self._world.packages.keep({revision.target.digest for revision in in_use})
        seen = _Seen(observed, report, self._shares(report))
        self._keep_time(in_use, seen)
        views, changed = {}, False
        for deployment in desired.deployments:
            revisions = desired.revisions.get(deployment.name, ())
            views[deployment.name] = View(deployment=deployment, revisions=revisions)
            try:
                view = views[deployment.name] = self._view(deployment, revisions, desired.rollouts.get(deployment.name), seen)
                actions = decide(view)
                if actions:
                    self._world.store.apply(deployment, actions)
                    changed = True
                self.errors.pop(deployment.name, None)
            except Exception as error:  # the neighbours go on; the next tick looks again
                self._failed(deployment.name, error)
        self.views = views
        return changed

    def _view(self, deployment: Deployment, revisions: tuple[Revision, ...], rollout: Rollout | None, seen: _Seen) -> View:
        _check_readable(deployment)
        main, also, unresolved = self._resolve(deployment, revisions)
        report = seen.report
        return View(
            deployment=deployment,
            revisions=revisions,
            main=main,
            also=also,
            unresolved=unresolved,
            prepared=self._prepared(revisions),
            observed=seen.observed,
            linked=report is not None,
            links=seen.links,
            failures=self._world.gateway.failures,
            loads={load.revision: load for load in report.revisions} if report else {},
            shares=seen.shares,
            ages=self._ages(revisions),
            without=self._without(revisions),
            rollout=rollout,
            judged=self._judged.get(deployment.name, Judged()),
            incompatible=between(rollout, revisions, self._world.packages),
            hourly=self._recent.hourly(deployment.name, self._world.clock.monotonic()),
            now=self._world.clock.wall(),
        )

    def _resolve(self, deployment: Deployment, revisions: tuple[Revision, ...]) -> tuple[Target | None, tuple[Target, ...], str]:
        if deployment.deleted:
            return None, (), ""
        spec = deployment.spec
        model = parse_reference(spec.model)[0]
        also = tuple(self._target(deployment, f"{model}@{number}") for number in spec.also)
        try:
            return self._target(deployment, spec.model), also, ""
        except NotFound as error:
            hopeful = WANTABLE | DONE_WITH
            last = [revision.target for revision in revisions if revision.state in hopeful and revision.target not in also]
            return (last[-1] if last else None), also, f"model: {error}; what was deployed before stays"

    def _target(self, deployment: Deployment, reference: str) -> Target:
        version = self._world.registry.version(reference)
        return Target(version=version.number, digest=version.digest, spec=pin(deployment.spec, version.number))

    def _prepared(self, revisions: Iterable[Revision]) -> dict[str, Prepared | Refused]:
        digests = {revision.target.digest for revision in revisions if revision.state in WANTABLE}
        looked = {digest: self._world.packages.look(digest) for digest in sorted(digests)}
        return {digest: found for digest, found in looked.items() if found is not None}

    def _shares(self, report: LoadReport | None) -> dict[str, int] | None:
        if not self._sent or report is None or report.table != self._table.id:
            return None
        return {weight.revision: weight.share for deployment in self._table.deployments for weight in deployment.split}

    def _keep_time(self, revisions: Iterable[Revision], seen: _Seen) -> None:
        now = self._world.clock.monotonic()
        present = {f"{revision.name} {revision.state}" for revision in revisions}
        ready = {replica for replica, link in seen.links.items() if link.state is LinkState.READY}
        present.update(ready)
        present.update(f"{revision.name} without" for revision in revisions if not ready.intersection(revision.replicas))
        self._since = {key: self._since.get(key, now) for key in present}

    def _ages(self, revisions: Iterable[Revision]) -> dict[str, float]:
        now = self._world.clock.monotonic()
        ages = {}
        for revision in revisions:
            keys = {revision.name: f"{revision.name} {revision.state}", **{replica: replica for replica in revision.replicas}}
            ages.update({name: now - self._since[key] for name, key in keys.items() if key in self._since})
        return ages

    def _without(self, revisions: Iterable[Revision]) -> dict[str, float]:
        now = self._world.clock.monotonic()
        keys = {revision.name: f"{revision.name} without" for revision in revisions}
        return {name: now - self._since[key] for name, key in keys.items() if key in self._since}

    # ---- act

    def _publish(self, desired: Desired) -> None:
        before = {route.name: route for route in self._table.deployments}
        routes = []
        for deployment in desired.deployments:
            try:
                name = deployment.name
                route = self._route(deployment, desired.revisions.get(name, ()), desired.rollouts.get(name))
            except Exception as error:  # a damaged package takes no neighbour's route, nor its own that was good
                self._failed(deployment.name, error)
                route = before.get(deployment.name)
            if route is not None:
                routes.append(route)
        keys = tuple(KeyRoute(id=key.id, sha256=key.sha256, scopes=key.scopes) for key in self.keys or ())
        table = RouteTable(
            id=self._table.id,
            deployments=tuple(routes),
            keys=keys,
            default_deployment=self._setting.default_deployment,
            loadable=self._wishes.loadable({deployment.name for deployment in desired.deployments}),
        )
        if not self._sent or table != self._table:
            self._send(table)

    def _send(self, table: RouteTable) -> None:
        """Give the table a number and send it; one that a gateway may have from before keeps its number."""
        if table != self._table or table.id == 0:
            table = msgspec.structs.replace(table, id=self._world.store.next_table_id(least=self._table.id))
            self._kept = False
        self._table = table
        self._world.gateway.publish(table)
        self._sent = True

    def _keep_table(self) -> None:
        """Write the table down, for a gateway that starts without control. Only now: a full disk must not keep a revoked key good."""
        if not self._kept:
            write_atomically(self._setting.routes, encode_table(self._table))
            self._kept = True

    def _route(self, deployment: Deployment, revisions: tuple[Revision, ...], rollout: Rollout | None) -> DeploymentRoute | None:
        _check_readable(deployment)
        facts = {
            revision.target.digest: self._world.packages.facts(revision.target.digest)
            for revision in revisions
            if revision.state in ROUTED
        }
        try:
            aliases = self._world.registry.model(parse_reference(deployment.spec.model)[0]).aliases
        except NotFound:
            aliases = {}
        return deployment_route(deployment, revisions, facts, aliases, rollout)

    def _apply(self, desired: Desired) -> None:
        unreadable = {deployment.name for deployment in desired.deployments if deployment.unreadable}
        # What cannot be read is not what nobody wants: its replicas stay those they were.
        specs = {name: kept for name, kept in self._specs.items() if name.rpartition("-")[0] in unreadable}
        for revisions in desired.revisions.values():
            for revision in revisions:
                try:
                    folder = str(self._world.packages.folder(revision.target.digest)) if revision.replicas else ""
                    specs[revision.name] = replica_specs(revision, folder, self._setting.machine)
                except HeadgateError as error:
                    # Omission means removal, and a missing package is no reason to end who has loaded it.
                    self._failed(revision.deployment, error)
                    specs[revision.name] = self._specs.get(revision.name, [])
        self._specs = specs
        self._world.executor.apply([spec for name in sorted(specs) for spec in specs[name]])

    def _failed(self, deployment: str, error: Exception) -> None:
        text = _in_words(error)
        if self.errors.get(deployment) != text:
            print(f"deployment {deployment}: this tick did nothing for it", file=sys.stderr)
            traceback.print_exception(error)
        self.errors[deployment] = text


class _Seen:
    """What was observed, once for all deployments."""

    def __init__(self, observed: Mapping[str, ObservedReplica], report: LoadReport | None, shares: dict[str, int] | None) -> None:
        self.observed = observed
        self.report = report
        self.shares = shares
        self.links: dict[str, ReplicaReport] = {}
        # The last link of a replica that was started again may still be listed beside the new one.
        for link in sorted(report.replicas if report else (), key=lambda link: -_RANK[link.state]):
            self.links[link.id] = link


def _check_readable(deployment: Deployment) -> None:
    if deployment.unreadable:
        raise SpecError(
            f"{deployment.unreadable}; what runs of it stays as it is. Deploy it again, or, if a newer Headgate wrote it, use that one"
        )


def _in_words(error: Exception) -> str:
    known = isinstance(error, HeadgateError)
    return str(error) if known else f"control failed at it with {type(error).__name__} and tries again; control.log says more"


def _last_table(path: Path) -> RouteTable:
    """Return the table of the control before; an empty one with number 0 where there is none."""
    try:
        return decode_table(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return RouteTable(id=0)
