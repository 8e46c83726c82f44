"""The gateway's end of the link: who connects to the socket, and one replica at work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import HeadgateError, ReplicaLost, by_code
from headgate.journal import LinkState, ReplicaReport, decode_pull
from headgate.package.signature import TensorSpec
from headgate.protocols.base import InferRequest, OutputTensor, Plan
from headgate.serving import link
from headgate.serving.join import at_fault
from headgate.serving.revision import blame
from headgate.tensors import BY_CODE, elements

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway
    from headgate.serving.revision import Revision

_GRACE_SECONDS = 1.0
"""A replica ends itself when a batch passes its limit; the gateway cuts the link this much later if it did not."""


class Peer(asyncio.Protocol):
    """Whoever has connected to the link socket: a replica, control or an adopting supervisor, as its HELLO says."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pending = b""
        self._replica: ReplicaLink | None = None
        self.transport: Any = None
        self.is_control = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for HELLO."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames."""
        if self._pending:
            data = self._pending + data
        at, end = 0, len(data)
        while end - at >= link.FRAME.size:
            length, kind, flags, _, batch = link.FRAME.unpack_from(data, at)
            stop = at + 4 + length
            if stop > end:
                if length > link.LARGEST:
                    self.transport.abort()
                    return
                break
            self._frame(kind, flags, batch, memoryview(data)[at + link.FRAME.size : stop])
            at = stop
        self._pending = data[at:] if at else data

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whom it concerns."""
        if self._replica is not None:
            self._replica.lost()
        if self.is_control:
            self._gateway.links.drop_control(self)

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        if not self.transport.is_closing():
            self.transport.write(frame)

    def _frame(self, kind: int, flags: int, batch: int, payload: memoryview) -> None:
        try:
            if self._replica is not None:
                self._replica.frame(kind, flags, batch, payload)
            elif kind == link.HELLO:
                self._hello(msgspec.json.decode(payload))
            elif kind == link.ROUTES and self.is_control:
                self._gateway.apply_bytes(bytes(payload))
            elif kind == link.PULL and self.is_control:
                self.send(link.frame(link.OUTCOMES, self._gateway.catalogue.pulled(decode_pull(payload), self._gateway.now())))
            elif kind == link.ANSWER and self.is_control:
                self._gateway.catalogue.administration.answered(bytes(payload))
        except (ValueError, KeyError, IndexError, struct.error, msgspec.MsgspecError) as error:
            self._gateway.log("link", f"a peer sent a frame of kind {kind} that cannot be read ({error!r}); its link is cut")
            self.transport.abort()

    def _hello(self, hello: dict[str, Any]) -> None:
        if hello["protocol"] != link.PROTOCOL:
            raise ValueError(f"it speaks link protocol {hello['protocol']}, this gateway {link.PROTOCOL}")
        if hello["role"] == "replica":
            self._replica = ReplicaLink(self._gateway, self, hello)
            self._send_fds(link.WELCOME, [self._replica.requests.fd, self._replica.responses.fd])
        elif hello["role"] == "control":
            self.is_control = True
            self._gateway.links.add_control(self)
        elif hello["role"] == "supervisor":
            self._send_fds(link.LISTENERS, [self._gateway.listener_fd])
            self.transport.close()
        else:
            raise ValueError(f"unknown role {hello['role']!r}")

    def _send_fds(self, kind: int, fds: list[int]) -> None:
        """The transport cannot pass file descriptors, so this goes past it; nothing has been written to it before."""
        fd = os.dup(self.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=fd) as sock:
            socket.send_fds(sock, [link.frame(kind)], fds)


class ReplicaLink:
    """One replica: idle, or busy with one batch, or one answer in parts."""

    def __init__(self, gateway: Gateway, peer: Peer, hello: dict[str, Any]) -> None:
        self._gateway = gateway
        self._peer = peer
        self.id: str = hello["id"]
        self.pid: int = hello["pid"]
        self.revision_name: str = hello["revision"]
        self.state = LinkState.LOADING
        self.reason = ""
        self.load_seconds = 0.0
        self.requests = link.Arena.create()
        self.responses = link.Arena.create()
        self.batch: list[InferRequest] = []
        self.busy_since: float | None = None
        self.leaving = False
        """It has said BYE: it gets no further batch."""
        self.number = zlib.crc32(self.id.encode()) % 0xFFFF + 1
        """What outcomes call it."""
        self.ready_since = 0.0
        """Monotonic seconds."""
        self.gone = False
        """The connection is closed."""
        self.overdue = False
        """It was cut off, or should have ended itself: its last batch, or part of an answer, took too long."""
        self._number = 0
        self._held = False
        """It may go on with an answer in parts only once the client has room again."""
        self._due = 0
        """Weight of the parts that have been handed on and not been granted."""
        self._outputs: Sequence[TensorSpec] = ()
        """Of the signature that the present batch is for."""
        self._check = 0
        """`link.CHECK` while a rollout wants to know of NaN."""
        gateway.replica_changed(self)

    @property
    def revision(self) -> Revision | None:
        """The revision it belongs to, if the routing table (still) knows it."""
        found: Revision | None = self._gateway.catalogue.revisions.get(self.revision_name)
        return found

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Send a batch to the replica, which must be idle."""
        self.batch = batch
        self.busy_since = now
        self._outputs = plan.signature.outputs
        self._held, self._due = False, 0
        self._number = (self._number + 1) & 0xFFFFFFFF
        tensors = []
        rows = batch[0].rows if len(batch) == 1 else sum([request.rows for request in batch])
        for into in plan.inputs:
            index = into.index
            shape = batch[0].shapes[index]
            if shape is None:
                continue
            parts = [request.data[index] for request in batch]
            if len(parts) > 1:
                shape = [rows, *shape[1:]]
            tensors.append(link.Packed(index, into.dtype.code, shape, parts, sum(map(len, parts))))
        extra = b""
        if plan.parameters and batch[0].parameters:
            extra = msgspec.json.encode(batch[0].parameters)
        frame = link.pack(
            link.BATCH, self._number, tensors, self.requests, rows=rows, extra=extra, flags=self._check, signature=plan.number
        )
        self._peer.transport.write(frame)

    def frame(self, kind: int, flags: int, batch: int, payload: memoryview) -> None:
        """Take one frame from the replica."""
        if kind == link.RESULT:
            if batch == self._number and self.busy_since is not None:
                if flags & link.MORE:
                    self._part(payload)
                else:
                    self._result(payload)
        elif kind == link.ERROR:
            if batch == self._number and self.busy_since is not None:
                error = msgspec.json.decode(payload)
                self._failed(by_code(error["code"], error["message"]))
        elif kind == link.READY:
            self.load_seconds = msgspec.json.decode(payload)["load_seconds"]
            self.state = LinkState.READY
            self.ready_since = self._gateway.now()
            self._gateway.replica_changed(self)
        elif kind == link.BYE:
            self.leaving = True
            if self.revision is not None:
                self.revision.leave(self)
            self._peer.send(link.frame(link.BYE))
        elif kind == link.FAILED:
            self.state = LinkState.FAILED
            self.reason = msgspec.json.decode(payload)["message"]
            self._gateway.replica_changed(self)

    def go_on(self) -> None:
        """The client has room for further parts."""
        self._held, self.busy_since = False, self._gateway.now()
        if self._due >= link.WINDOW // 4:  # not for every small part
            self._peer.send(link.grant(self._number, self._due))
            self._due = 0

    def cancel(self) -> None:
        """Nobody waits for further parts."""
        self._held, self.busy_since = False, self._gateway.now()
        self._peer.send(link.frame(link.CANCEL, b"", self._number))

    def attach(self, revision: Revision) -> None:
        """Serve ``revision`` from now on."""
        self._check = link.CHECK if revision.judged else 0
        if self not in revision.links and not self.leaving:
            revision.linked(self)

    def lost(self) -> None:
        """The connection has gone."""
        self.gone = True
        if self.state is not LinkState.FAILED:
            self.state = LinkState.LOST
        revision = self.revision
        if revision is not None and self.busy_since is not None and not self._held:
            self.overdue = self._gateway.now() - self.busy_since >= revision.route.batch_timeout
        batch, self.batch, self.busy_since = self.batch, [], None
        if revision is not None:
            revision.lost(self, batch, self._gateway.now())
            self._gateway.wake(revision)  # another replica may be idle, and nothing else may be coming
        else:
            for request in batch:
                if not request.done:
                    request.done = True
                    request.sink.failed(request, ReplicaLost(f"the replica {self.id} died"))
        self.requests.close()
        self.responses.close()
        self._gateway.replica_changed(self)

    def watch(self, now: float, limit: float) -> None:
        """Cut the link of a replica whose batch takes longer than ``limit`` seconds: it should have ended itself."""
        if self.busy_since is not None and not self._held and now - self.busy_since > limit + _GRACE_SECONDS:
            over = f"batch_timeout ({limit:g} s) is over, {self.id} has been computing for {now - self.busy_since:.1f} s"
            self._gateway.log("replica_hangs", f"{over}; its link is cut")
            with contextlib.suppress(OSError):
                self._peer.transport.abort()

    def report(self, now: float) -> ReplicaReport:
        """What control is told."""
        busy = 0.0 if self.busy_since is None else now - self.busy_since
        return ReplicaReport(
            id=self.id,
            revision=self.revision_name,
            pid=self.pid,
            state=self.state,
            reason=self.reason,
            load_seconds=self.load_seconds,
            busy_seconds=round(busy, 3),
        )

    def _result(self, payload: memoryview) -> None:
        message = link.unpack(payload, self.responses)
        revision = self.revision
        if revision is None:
            return
        outputs = self._read(message)
        batch, self.batch, self.busy_since = self.batch, [], None
        if message.extra:
            blame(batch, self)
            _tell_rows(revision, batch, message.extra)
        revision.completed(self, batch, outputs, message.nanoseconds / 1e9, self._gateway.now())
        self._resume(revision)

    def _part(self, payload: memoryview) -> None:
        message = link.unpack(payload, self.responses)
        revision = self.revision
        if revision is None:
            return
        self.busy_since = now = self._gateway.now()
        self._due += link.weight(len(payload), [len(tensor.data) for tensor in message.tensors])
        if revision.part(self, self._read(message), message.nanoseconds / 1e9, now):
            self.go_on()
        else:
            self._held = True

    def _read(self, message: link.Message) -> list[OutputTensor]:
        outputs = []
        for index, code, shape, data in message.tensors:
            dtype = BY_CODE[code]
            if dtype.size and elements(shape) * dtype.size != len(data):
                raise ValueError(f"output {index} has {len(data)} bytes for shape {shape}")
            # What lies in the arena is overwritten by the next batch, or part; what lies in the frame is our own.
            own = bytes(data) if len(data) >= link.ARENA_FROM else data
            outputs.append(OutputTensor(self._outputs[index].name, dtype, shape, own))
        return outputs

    def _failed(self, error: HeadgateError) -> None:
        batch, self.batch, self.busy_since = self.batch, [], None
        revision = self.revision
        if revision is not None:
            revision.failed(self, batch, error)
            self._resume(revision)

    def _resume(self, revision: Revision) -> None:
        """It is idle again, if it is not about to end."""
        if self.leaving:
            revision.leave(self)
        self._gateway.wake(revision)


class _Fault(msgspec.Struct):
    code: str
    message: str


class _Rows(msgspec.Struct):
    """What a replica says of single rows of a batch."""

    failed: dict[int, _Fault] = {}
    invalid: list[int] = []
    """Those with NaN or infinity in an output."""


def _tell_rows(revision: Revision, batch: list[InferRequest], extra: bytes) -> None:
    """Fail the requests of which a row failed, and note whose answers are no numbers."""
    rows = msgspec.json.decode(extra, type=_Rows)
    faults = {row: by_code(fault.code, fault.message) for row, fault in rows.failed.items()}
    for request, error in at_fault(batch, faults):
        revision.fail(request, error)
    for request, _ in at_fault(batch, dict.fromkeys(rows.invalid, HeadgateError(""))):
        if request.decision is not None:
            request.decision.invalid()
