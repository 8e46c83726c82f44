"""The gateway: one thread that owns the sockets, the routing table, the queues and the replicas' links.

The path of a request, to be read in this order: `HttpConnection.data_received` -> `Gateway.handle` -> `Gateway.dispatch` ->
`Protocol.decode` -> `Revision.submit` -> (end of the loop turn) `Gateway._pump` -> `Revision.pump` -> `ReplicaLink.send`; and back:
`ReplicaLink.frame` -> `Revision.completed` -> `HttpConnection.answered` -> `Protocol.encode`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from headgate.clock import Clock, EventIds
from headgate.errors import DeadlineExceeded, HeadgateError, NotFound, Overloaded
from headgate.home import Home
from headgate.journal import LinkState, LoadReport, encode_report
from headgate.protocols.base import InferRequest
from headgate.routes import RouteTable, decode_table
from headgate.serving import link
from headgate.serving.deployment import Deployment
from headgate.serving.endpoints import Endpoints
from headgate.serving.limit import Limits
from headgate.serving.metrics import Metrics
from headgate.serving.replicas import Peer, ReplicaLink
from headgate.serving.revision import Revision
from headgate.serving.wire.head import Head, parse_head
from headgate.serving.wire.http1 import HttpConnection
from headgate.telemetry import Labels

TICK_SECONDS = 0.02
"""Resolution of deadlines."""
_HEADS = 2048
_HEAD_BYTES = 2048
"""Only short heads are kept: a client cannot fill memory with long ones."""


class Gateway:
    """Everything one gateway process knows."""

    def __init__(
        self, name: str, home: Home, endpoints: Endpoints, limits: Limits, clock: Clock, *, access_log: bool = False
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        self.limits = limits
        self.now = clock.monotonic
        self.coarse = self.now()
        """The time of the last tick: good enough for the limits of connections."""
        self.ids = EventIds(clock)
        self.loop: asyncio.AbstractEventLoop
        self.heads: dict[bytes, Head] = {}
        self.deployments_by_name: dict[str, Deployment] = {}
        self.revisions: dict[str, Revision] = {}
        self.draining = False
        self.metric = Metrics()
        self.listener_fd = -1
        self.ok_prefix = self.common_headers = b""
        self._home = home
        self._clock = clock
        self.access_log = access_log
        """Write one line for every request."""
        self._table = RouteTable(id=0)
        self._connections: set[HttpConnection] = set()
        self._replicas: set[ReplicaLink] = set()
        self._controls: set[Peer] = set()
        self._dirty: set[Revision] = set()
        self._draw = random.Random().random  # noqa: S311  (it shares out traffic, it keeps no secret)
        self._second = 0
        self._last_measure = self.now()

    # ---- the request path

    def handle(self, connection: HttpConnection, head: Head, body: bytes) -> None:
        """One whole request has arrived."""
        if head.content_encoding and head.error is None and body:
            connection.decode_body(head, body)
        else:
            self.dispatch(connection, head, body)

    def dispatch(self, connection: HttpConnection, head: Head, body: bytes) -> None:
        """Route, decode and queue it, or answer at once."""
        endpoint = head.endpoint
        if endpoint is None or head.error is not None:
            assert head.error is not None
            self.count_refused(head.error.status)
            connection.fail(head.error)
            return
        if endpoint.route.operation != "infer":
            self._answer(connection, head)
            return
        now = self.now()
        try:
            deployment = self.deployment(head.params["model"])
            revision = deployment.choose(head.params.get("version"), self._draw)
        except HeadgateError as error:
            self.count_refused(error.status)
            connection.fail(error)
            return
        connection.series = series = revision.series(endpoint.protocol.name)
        try:
            request = endpoint.protocol.decode(head, body, revision.plan)
            request.sink = connection
            request.arrived = now
            timeout = request.timeout or deployment.timeout
            if head.timeout is not None and head.timeout < timeout:
                timeout = head.timeout
            request.deadline = now + min(timeout, deployment.timeout)
            connection.request = request
            revision.submit(request, now)
        except HeadgateError as error:
            connection.request = None
            series.count(error.status, self.now() - now)
            if isinstance(error, Overloaded):
                self.metric.add(self.metric.rejected, deployment=revision.deployment, revision=revision.name)
            connection.fail(error)
            return
        self.wake(revision)

    def _answer(self, connection: HttpConnection, head: Head) -> None:
        endpoint = head.endpoint
        assert endpoint is not None
        try:
            connection.reply(getattr(endpoint.protocol, endpoint.route.operation)(head, self))
        except HeadgateError as error:
            connection.fail(error)

    def wake(self, revision: Revision) -> None:
        """Form batches at the end of this loop turn, from everything that has arrived by then."""
        if not self._dirty:
            self.loop.call_soon(self._pump)
        self._dirty.add(revision)

    def _pump(self) -> None:
        now = self.now()
        dirty, self._dirty = self._dirty, set()
        for revision in dirty:
            delay = revision.pump(now)
            if delay != float("inf"):
                self.loop.call_later(delay, self.wake, revision)

    def abandon(self, request: InferRequest, connection: HttpConnection) -> None:
        """The client of ``request`` has gone."""
        owner = self.revisions.get(connection.series.revision)
        if owner is not None:
            owner.abandon(request)
            self.metric.add(self.metric.abandoned, deployment=owner.deployment, revision=owner.name)

    def parse_head(self, raw: bytes) -> Head:
        """Parse and route a head that has not been seen before, and remember it."""
        head = parse_head(raw, json_bytes=self.limits.json_bytes, binary_bytes=self.limits.binary_bytes)
        if not head.fatal:
            self.endpoints.resolve(head)
        if len(raw) <= _HEAD_BYTES and "x-request-id" not in head.headers:
            if len(self.heads) >= _HEADS:
                self.heads.clear()
            self.heads[raw] = head
        return head

    # ---- what protocols may know (protocols.base.Catalogue)

    @property
    def ready(self) -> bool:
        """Whether everything that should serve would compute a request now."""
        return not self.draining and all(deployment.ready for deployment in self.deployments_by_name.values())

    def deployment(self, name: str) -> Deployment:
        """Return the deployment called ``name``. Raises `NotFound`."""
        found = self.deployments_by_name.get(name)
        if found is None:
            raise NotFound(f"Request for unknown model: '{name[:200]}' is not found; here are {sorted(self.deployments_by_name)}")
        return found

    def deployments(self) -> Iterable[Deployment]:
        """Return all deployments, by name."""
        return [self.deployments_by_name[name] for name in sorted(self.deployments_by_name)]

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
            ("headgate_connections", "Open client connections.", {(): float(len(self._connections))}),
        ]
        return self.metric.text(gauges)

    # ---- the routing table

    def apply_bytes(self, data: bytes) -> None:
        """Take over a table that control has sent, and keep it for a start without control."""
        table = decode_table(data)
        if table.id >= self._table.id:
            self.apply(table)

    def apply(self, table: RouteTable) -> None:
        """Make ``table`` the one in force. Omission means removal; what stays keeps its queue and its counters."""
        self._table = table
        now = self.now()
        old, self.revisions = self.revisions, {}
        deployments = {}
        for route in table.deployments:
            for entry in route.revisions:
                revision = old.pop(entry.name, None)
                if revision is None:
                    revision = Revision(route, entry, self.metric, now)
                else:
                    revision.update(route, entry)
                self.revisions[entry.name] = revision
            deployments[route.name] = Deployment(route, self.revisions)
        self.deployments_by_name = deployments
        self.endpoints.set_keys(table.keys)
        self.endpoints.set_default(table.default_deployment)
        for gone in old.values():
            gone.close()
        for replica in self._replicas:
            self._attach(replica)
        self.heads.clear()
        self.report()

    def load_table(self) -> None:
        """Start from the last table on disk, if there is one."""
        try:
            self.apply(decode_table(self._home.routes.read_bytes()))
        except FileNotFoundError:
            return
        except ValueError as error:
            self.log("table", f"the routing table on disk cannot be read ({error}); waiting for control")

    # ---- replicas and control

    def replica_changed(self, replica: ReplicaLink) -> None:
        """A replica has linked, become ready, failed or gone."""
        if replica.state is LinkState.LOST:
            self._replicas.discard(replica)
        else:
            self._replicas.add(replica)
            self._attach(replica)
        self.log("replica", f"{replica.id} is {replica.state}", id=replica.id, state=replica.state, reason=replica.reason)
        self.report(replica)

    def _attach(self, replica: ReplicaLink) -> None:
        revision = self.revisions.get(replica.revision_name)
        if revision is not None and replica.state is LinkState.READY:
            replica.attach(revision)
            self.wake(revision)

    def control_linked(self, peer: Peer) -> None:
        """Control is there (again)."""
        self._controls.add(peer)
        self.report()

    def control_lost(self, peer: Peer) -> None:
        """Control has gone; everything goes on."""
        self._controls.discard(peer)

    def report(self, gone: ReplicaLink | None = None) -> None:
        """Tell control how things stand; a replica that has just gone is named one last time."""
        if not self._controls:
            return
        now = self.now()
        replicas = self._replicas | ({gone} if gone is not None else set())
        report = LoadReport(
            gateway=self.name,
            table=self._table.id,
            draining=self.draining,
            connections=len(self._connections),
            replicas=tuple(replica.report(now) for replica in replicas),
            revisions=tuple(revision.report() for revision in self.revisions.values()),
        )
        frame = link.frame(link.REPORT, encode_report(report))
        for peer in self._controls:
            peer.send(frame)

    # ---- connections

    def connected(self, connection: HttpConnection) -> bool:
        """Count a connection in; False if there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def disconnected(self, connection: HttpConnection) -> None:
        """Count it out."""
        self._connections.discard(connection)

    def attempt(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``work`` returns, or the `HeadgateError` it raises."""
        try:
            return work(*arguments)
        except HeadgateError as error:
            return error

    def in_thread(self, then: Callable[[Any], None], work: Callable[..., Any], *arguments: Any) -> None:
        """Do ``work`` in a thread and hand its result, or its `HeadgateError`, to ``then`` on the loop."""
        future = self.loop.run_in_executor(None, self.attempt, work, *arguments)
        future.add_done_callback(lambda done: then(done.result()))

    def count_failure(self, request: InferRequest, error: HeadgateError, connection: HttpConnection) -> None:
        """Count a request that was accepted and failed."""
        owner = self.revisions.get(connection.series.revision)
        if owner is None:
            return
        if error.status >= 500:
            owner.failures += 1
        if isinstance(error, DeadlineExceeded):
            self.metric.add(self.metric.expired, deployment=owner.deployment, revision=owner.name)

    def count_refused(self, status: int) -> None:
        """Count a request that found no deployment."""
        self.metric.add(self.metric.refused, status=str(status))

    # ---- time

    def tick(self) -> None:
        """Deadlines and hangs, every `TICK_SECONDS`; once a second everything slower."""
        self.coarse = now = self.now()
        for revision in self.revisions.values():
            if revision.inflight:
                revision.expire(now)
        wall = int(self._clock.wall())
        if wall != self._second:
            self._second = wall
            self._each_second(now, wall)
        self.loop.call_later(TICK_SECONDS, self.tick)

    def _each_second(self, now: float, wall: int) -> None:
        self.common_headers = b"x-content-type-options: nosniff\r\ndate: %b\r\n" % formatdate(wall, usegmt=True).encode()
        self.ok_prefix = b"HTTP/1.1 200 OK\r\n" + self.common_headers
        for revision in self.revisions.values():
            revision.measure(max(0.001, now - self._last_measure))
        self._last_measure = now
        for replica in list(self._replicas):
            owner = replica.revision
            if owner is not None:
                replica.watch(now, owner.route.batch_timeout)
        for connection in list(self._connections):
            connection.check(now)
        self.report()

    # ---- the end

    async def drain(self, delay: float, limit: float, stop_listening: Callable[[], None]) -> None:
        """Be unready at once; after ``delay`` stop listening; return once nothing is in flight, at most ``limit`` seconds later."""
        self.draining = True
        self.heads.clear()
        self.report()
        await asyncio.sleep(delay)
        stop_listening()
        for connection in list(self._connections):
            connection.drain()
        end = self.now() + limit
        while any(revision.inflight for revision in self.revisions.values()) and self.now() < end:
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(TICK_SECONDS)  # the last answers leave the process

    def log_request(self, head: Head, status: int, size: int, request_id: str) -> None:
        """Write one line about a request: only where `access_log` asks for it."""
        self.log("request", f"{head.method} {head.path[:200]} {status}", status=status, bytes=size, request_id=request_id)

    def log(self, event: str, text: str, **fields: Any) -> None:
        """Write one structured line."""
        line = {"at": round(self._clock.wall(), 3), "process": self.name, "event": event, "text": text}
        print(json.dumps(line | {key: value for key, value in fields.items() if value}), file=sys.stderr, flush=True)
