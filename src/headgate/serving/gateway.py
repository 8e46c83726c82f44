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
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

from headgate.clock import Clock, EventIds
from headgate.errors import DeadlineExceeded, HeadgateError, Overloaded
from headgate.home import Home
from headgate.journal import LinkState
from headgate.protocols.base import InferRequest, Later
from headgate.routes import RouteTable, decode_table
from headgate.serving.administration import Administration
from headgate.serving.catalogue import Catalogue
from headgate.serving.endpoints import Endpoints
from headgate.serving.limit import Limits
from headgate.serving.links import Links
from headgate.serving.metrics import Metrics
from headgate.serving.replicas import ReplicaLink
from headgate.serving.revision import Revision
from headgate.serving.wire.exchange import Exchange
from headgate.serving.wire.grpc_streams import kind_of_call
from headgate.serving.wire.head import Head
from headgate.serving.wire.heads import Heads
from headgate.serving.wire.http1 import HttpConnection
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.streams import GatewayConnection, HttpStream, RequestStream
from headgate.tensors import Buffer

TICK_SECONDS = 0.02
"""Resolution of deadlines."""


class Gateway:
    """Everything one gateway process knows."""

    def __init__(
        self,
        name: str,
        home: Home,
        endpoints: Endpoints,
        limits: Limits,
        clock: Clock,
        *,
        access_log: bool = False,
        model_control: bool = False,
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        self.limits = limits
        self.now = clock.monotonic
        self.coarse = self.now()
        """The time of the last tick: good enough for the limits of connections."""
        self.ids = EventIds(clock)
        self.loop: asyncio.AbstractEventLoop
        self.heads = Heads(endpoints, limits)
        self.stream_kinds: Mapping[str, Callable[[Head], type[RequestStream]]] = {
            "http": lambda _: HttpStream,
            "grpc": kind_of_call,
        }
        self.http2_limits = Http2Limits(
            head_seconds=limits.head_seconds, body_seconds=limits.body_seconds, idle_seconds=limits.idle_seconds
        )
        self.metric = Metrics()
        self.catalogue = Catalogue(clock, self.metric, Administration(model_control, self.now))
        self.catalogue.mirrors.turns = self
        self.links = Links(name, self.catalogue, self.now)
        self.listener_fd = -1
        self.draining = False
        self.ok_prefix = self.common_headers = b""
        self._home, self._clock = home, clock
        self.access_log = access_log
        """Write one line for every request."""
        self.connections: set[HttpConnection | GatewayConnection] = set()
        """Those that are open."""
        self._dirty: set[Revision] = set()
        self._draw = random.Random().random  # noqa: S311  (it shares out traffic, it keeps no secret)
        self._second = 0
        self._last_measure = self.now()

    # ---- the request path

    def handle(self, exchange: Exchange, head: Head, body: bytes) -> None:
        """One whole request has arrived."""
        if head.content_encoding and head.error is None and body:
            exchange.decode_body(head, body)
        else:
            self.dispatch(exchange, head, body)

    def dispatch(self, exchange: Exchange, head: Head, body: Buffer) -> None:
        """Route, decode and queue it, or answer at once."""
        endpoint = head.endpoint
        if endpoint is None or head.error is not None:
            assert head.error is not None
            self.count_refused(head.error.status)
            exchange.fail(head.error)
            return
        protocol = endpoint.protocol
        if not endpoint.infers:
            self._answer(exchange, head, body)
            return
        now = self.now()
        message: Any = body
        try:
            address = head.address
            if address is None:
                message = protocol.parse(head, body)
                address = protocol.address(head, message)
            deployment = self.catalogue.deployment(*address)
            revision = deployment.choose(address[1], self._draw, head.steering)
        except HeadgateError as error:
            self.count_refused(error.status)
            exchange.fail(error)
            return
        exchange.series = revision.series(protocol.name)
        try:
            request = protocol.decode(head, message, revision.plan)
            if revision.sequences is not None:
                home = revision.sequences.home(request, revision, address[1] is not None)
                if home is not revision:
                    revision, request = home, protocol.decode(head, message, home.plan)
                    exchange.series = home.series(protocol.name)
            request.sink = exchange
            request.arrived = now
            timeout = deployment.timeout
            if request.timeout is not None and request.timeout < timeout:
                timeout = request.timeout
            if head.timeout is not None and head.timeout < timeout:
                timeout = head.timeout
            request.deadline = now + timeout
            exchange.request = request
            if deployment.outcomes is not None and revision.sequences is None:
                request.decision = deployment.decided(revision, address[1], head.steering, request)
            if deployment.mirror is not None:
                deployment.mirror.watch(request, revision, address[1], head.steering, self._draw)
            revision.submit(request, now)
        except HeadgateError as error:
            _not_taken(self, exchange, revision, error, now)
            return
        self.wake(revision)

    def _answer(self, exchange: Exchange, head: Head, body: Buffer) -> None:
        endpoint = head.endpoint
        assert endpoint is not None
        protocol = endpoint.protocol
        try:
            answer = getattr(protocol, endpoint.route.operation)(head, self.catalogue, protocol.parse(head, body))
        except HeadgateError as error:
            exchange.fail(error)
            return
        if isinstance(answer, Later):
            answer.sink = exchange
        else:
            exchange.reply(answer)

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

    def abandon(self, request: InferRequest, exchange: Exchange) -> None:
        """The client of ``request`` has gone."""
        owner = self.catalogue.revisions.get(exchange.series.revision)
        if owner is not None:
            owner.abandon(request)
            if request.decision is not None:
                request.decision.abandoned(self.now())
            self.metric.add(self.metric.abandoned, deployment=owner.deployment, revision=owner.name)

    # ---- the routing table and the replicas

    def apply_bytes(self, data: bytes) -> None:
        """Take over a table that control has sent, unless a newer one is in force."""
        table = decode_table(data)
        if table.id >= self.catalogue.table.id:
            self.apply(table)

    def apply(self, table: RouteTable) -> None:
        """Make ``table`` the one in force."""
        self.catalogue.apply(table)
        self.endpoints.apply(table)
        self.heads.forget()
        for replica in self.links.replicas():
            self._attach(replica)
        self.links.report()

    def load_table(self) -> None:
        """Start from the last table on disk, if there is one."""
        try:
            self.apply(decode_table(self._home.routes.read_bytes()))
        except FileNotFoundError:
            return
        except ValueError as error:
            self.log("table", f"the routing table on disk cannot be read ({error}); waiting for control")

    def replica_changed(self, replica: ReplicaLink) -> None:
        """A replica has linked, become ready, failed or gone."""
        self._attach(replica)
        self.log("replica", f"{replica.id} is {replica.state}", id=replica.id, state=replica.state, reason=replica.reason)
        self.links.changed(replica)

    def _attach(self, replica: ReplicaLink) -> None:
        revision = replica.revision
        if revision is not None and replica.state is LinkState.READY:
            replica.attach(revision)
            self.wake(revision)

    # ---- connections

    def connected(self, connection: HttpConnection | GatewayConnection) -> bool:
        """Count a connection in; False if there are too many."""
        self.connections.add(connection)
        self.catalogue.connections = len(self.connections)
        return len(self.connections) <= self.limits.connections

    def disconnected(self, connection: HttpConnection | GatewayConnection) -> None:
        """Count it out."""
        self.connections.discard(connection)
        self.catalogue.connections = len(self.connections)

    def count_failure(self, request: InferRequest, error: HeadgateError, exchange: Exchange) -> None:
        """Count a request that was accepted and failed."""
        owner = self.catalogue.revisions.get(exchange.series.revision)
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
        for revision in self.catalogue.revisions.values():
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
        for revision in self.catalogue.revisions.values():
            revision.served.measure(max(0.001, now - self._last_measure))
        self._last_measure = now
        self.links.watch(now)
        self.catalogue.administration.expire(now)
        self.catalogue.expire_sequences(now)
        for connection in list(self.connections):
            connection.check(now)
        self.links.report()

    # ---- the end

    def begin_drain(self) -> None:
        """Be unready at once, and say ``connection: close`` with every answer."""
        self.draining = self.catalogue.draining = True
        self.links.report()

    # ---- words

    def log(self, event: str, text: str, **fields: Any) -> None:
        """Write one structured line."""
        line = {"at": round(self._clock.wall(), 3), "process": self.name, "event": event, "text": text}
        print(json.dumps(line | {key: value for key, value in fields.items() if value}), file=sys.stderr, flush=True)


def _not_taken(gateway: Gateway, exchange: Exchange, revision: Revision, error: HeadgateError, arrived: float) -> None:
    """Answer a request that ``revision`` did not take in: it could not be read, or there is no room for it."""
    now, request = gateway.now(), exchange.request
    if request is not None and request.decision is not None:
        request.decision.failed(error, now)
    exchange.request = None
    exchange.series.count_failed(error.status, now - arrived)
    if isinstance(error, Overloaded):
        gateway.metric.add(gateway.metric.rejected, deployment=revision.deployment, revision=revision.name)
    exchange.fail(error)
