"""The replica: one process, one package, one batch at a time.

It connects to its gateways, loads the model and answers batches until it is told to end (SIGTERM or BYE: the batch under way is
finished), or until no gateway has been there for ten seconds. It watches itself: a batch, or one part of an answer in parts, that takes
longer than the limit ends the process with the stacks of all threads in its log, whether Python or C code hangs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headgate import streams
from headgate.errors import HeadgateError
from headgate.runtimes.base import said
from headgate.serving import link
from headgate.serving.digests import check_digests
from headgate.serving.words import for_clients
from headgate.serving.worker import Worker

ORPHAN_SECONDS = 10.0
LEAVE_SECONDS = 2.0
"""For a gateway to take notice that this replica ends."""
_RECONNECT_SECONDS = 0.1
_HEAD = 4
"""The frame starts here in the receive buffer, so that its payload, 12 bytes on, is aligned to 16."""


class Ended(Exception):
    """Told to end."""


class Received(NamedTuple):
    """One frame from the gateway."""

    kind: int
    batch: int
    payload: memoryview
    flags: int


class GatewayLink:
    """The replica's end of one link."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket: socket.socket | None = None
        self._buffer = bytearray(1 << 16)
        self._filled = 0
        self._taken = 0
        self._poll = select.poll()
        self.requests: link.Arena | None = None
        self.responses: link.Arena | None = None

    def connect(self, hello: dict[str, Any]) -> bool:
        """Try to connect and shake hands."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(5.0)
            sock.connect(self.path)
            sock.sendall(link.frame(link.HELLO, json.dumps(hello).encode()))
            data, fds, _, _ = socket.recv_fds(sock, link.FRAME.size, 2)
        except OSError:
            sock.close()
            return False
        if len(fds) != 2 or len(data) != link.FRAME.size:
            sock.close()
            return False
        for fd in fds:  # recv_fds leaves them inheritable, and a model may start programs
            os.set_inheritable(fd, False)
        sock.settimeout(None)
        self.requests, self.responses = link.Arena(fds[0]), link.Arena(fds[1])
        self.socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._filled = self._taken = 0
        return True

    def send(self, frame: bytes) -> None:
        """Send one frame; a gateway that has gone is noticed by `receive`."""
        if self.socket is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.socket.sendall(frame)

    def receive(self) -> Received | None:
        """Wait for one frame; None when the gateway has gone. The payload is valid until the next."""
        assert self.socket is not None
        if self._taken:  # BYE may follow a batch in the same read
            self._buffer[_HEAD : _HEAD + self._filled - self._taken] = self._buffer[_HEAD + self._taken : _HEAD + self._filled]
            self._filled, self._taken = self._filled - self._taken, 0
        need = link.FRAME.size
        while self._filled < need or need == link.FRAME.size:
            if self._filled >= link.FRAME.size:
                need = 4 + int(link.FRAME.unpack_from(self._buffer, _HEAD)[0])
                if self._filled >= need:
                    break
                if need > len(self._buffer) - _HEAD:
                    self._enlarge(need)
            try:
                got = self.socket.recv_into(memoryview(self._buffer)[_HEAD + self._filled :])
            except ConnectionError:
                return None
            if not got:
                return None
            self._filled += got
        _, kind, flags, _, batch = link.FRAME.unpack_from(self._buffer, _HEAD)
        self._taken = need
        return Received(kind, batch, memoryview(self._buffer)[_HEAD + link.FRAME.size : _HEAD + need].toreadonly(), flags)

    @property
    def holds_frame(self) -> bool:
        """Whether a whole frame has been read behind the one that was received last."""
        left = self._filled - self._taken
        return left >= link.FRAME.size and left >= 4 + int(link.FRAME.unpack_from(self._buffer, _HEAD + self._taken)[0])

    def readable(self, *, wait: bool) -> bool:
        """Return whether there is something to receive, the gateway's end included; ``wait`` until there is."""
        return self.holds_frame or bool(self._poll.poll(None if wait else 0))

    def _enlarge(self, need: int) -> None:
        if need > link.LARGEST:
            raise ValueError(f"a frame of {need} bytes: the gateway is broken")
        self._buffer = self._buffer[: _HEAD + self._filled] + bytearray(need - self._filled + 1024)

    def close(self) -> None:
        """Close the link and its arenas."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
            for arena in (self.requests, self.responses):
                if arena is not None:
                    arena.close()


class PartsUnderWay:
    """The parts of one answer on their way through a gateway to its client."""

    def __init__(self, gateway: GatewayLink, batch: int) -> None:
        self._gateway = gateway
        self._batch = batch
        self._weight = 0
        """Of what the gateway has not granted yet."""
        self.unwanted = False
        """Nobody waits for further parts."""
        self.gone = False
        """There is no gateway any more."""
        self.told_to_end = False
        """The gateway has said BYE meanwhile."""

    def send(self, outputs: Sequence[link.Packed], nanoseconds: int) -> None:
        """Send one part, hear what the gateway says, and wait while there is no room for another one."""
        gateway = self._gateway
        assert gateway.responses is not None
        frame = link.pack(link.RESULT, self._batch, outputs, gateway.responses, rows=1, nanoseconds=nanoseconds, flags=link.MORE)
        gateway.send(frame)
        self._weight += link.weight(len(frame) - link.FRAME.size, [output.size for output in outputs])
        while not self.unwanted and gateway.readable(wait=self._weight >= link.WINDOW):
            self._hear()

    def _hear(self) -> None:
        received = self._gateway.receive()
        if received is None:
            self.gone = self.unwanted = True
            return
        kind, batch, payload, _ = received
        if kind == link.BYE:
            self.told_to_end = True
        elif batch == self._batch and kind == link.GRANT:
            self._weight -= link.granted(payload)
        elif batch == self._batch and kind == link.CANCEL:
            self.unwanted = True


class Replica:
    """Links, worker and the loop between them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._hello = {
            "protocol": link.PROTOCOL,
            "role": "replica",
            "id": config["id"],
            "revision": config["revision"],
            "pid": os.getpid(),
        }
        self._links = [GatewayLink(path) for path in config["links"]]
        self._package = Path(config["package"])
        self._device: str = config["device"]
        self._threads: int = config["threads"]
        self._worker: Worker  # from `_load` on
        self._load_timeout: float = config["load_timeout"]
        self._batch_timeout: float = config["batch_timeout"]
        self._state: bytes = b""
        """READY once loaded: what a gateway that connects later is told first."""
        self._idle = False
        self._ending = False

    def run(self) -> int:
        """Load, serve, end. Returns the exit code."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        faulthandler.register(signal.SIGALRM, file=sys.stderr, all_threads=True, chain=True)
        try:
            self._connect_all()
            if not self._load():
                return 1
            self._serve()
        except Ended:
            self._leave()
        self._worker.unload()
        return 0

    def _load(self) -> bool:
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self._load_timeout)
        try:
            check_digests(self._package)
            self._worker = Worker(self._package, device=self._device, threads=self._threads)
            self._worker.load()
        except Exception as error:
            traceback.print_exc()
            code = error.code if isinstance(error, HeadgateError) else "model_failed"
            text = str(error) if isinstance(error, HeadgateError) else f"loading the model raised {said(error)}"
            self._tell_all(link.frame(link.FAILED, json.dumps({"code": code, "message": text}).encode()))
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._state = link.frame(link.READY, json.dumps({"load_seconds": round(time.monotonic() - started, 3)}).encode())
        self._tell_all(self._state)
        return True

    def _serve(self) -> None:
        poll = select.poll()
        by_fd = {}
        for gateway in self._links:
            if gateway.socket is not None:
                poll.register(gateway.socket, select.POLLIN)
                by_fd[gateway.socket.fileno()] = gateway
        orphan_since = time.monotonic()
        while True:
            missing = len(by_fd) < len(self._links)
            self._idle = True
            if self._ending:
                raise Ended
            ready = poll.poll(_RECONNECT_SECONDS * 1000 if missing else None)
            self._idle = False
            for fd, _ in ready:
                if not self._answer_all(by_fd[fd]):
                    poll.unregister(fd)
                    by_fd.pop(fd).close()
                    orphan_since = time.monotonic()
            if not by_fd and time.monotonic() - orphan_since > ORPHAN_SECONDS:
                print(f"no gateway for {ORPHAN_SECONDS:g} s: ending", file=sys.stderr, flush=True)
                return
            if missing and not ready:
                for gateway in self._connect_all():
                    gateway.send(self._state)
                    assert gateway.socket is not None
                    poll.register(gateway.socket, select.POLLIN)
                    by_fd[gateway.socket.fileno()] = gateway

    def _leave(self) -> None:
        """Tell every gateway, and answer what each has sent until it says BYE too: a batch may be on its way."""
        self._idle = False
        for gateway in self._links:
            if gateway.socket is not None:
                gateway.send(link.frame(link.BYE))
                gateway.socket.settimeout(LEAVE_SECONDS)
                with contextlib.suppress(Ended, TimeoutError):
                    while self._answer(gateway):
                        pass

    def _answer_all(self, gateway: GatewayLink) -> bool:
        """Answer what has come, which may be several frames in one piece; False when the gateway has gone."""
        while self._answer(gateway):
            if self._ending or not gateway.holds_frame:
                return True
        return False

    def _answer(self, gateway: GatewayLink) -> bool:
        """Take one frame and answer it; False when the gateway has gone."""
        received = gateway.receive()
        if received is None:
            return False
        kind, batch, payload, _ = received
        if kind == link.BYE:
            raise Ended
        if kind == link.BATCH and self._worker.streams:
            return self._stream(gateway, batch, payload)
        if kind == link.BATCH:
            gateway.send(self._run(gateway, received))
        return True

    def _run(self, gateway: GatewayLink, received: Received) -> bytes:
        assert gateway.requests is not None and gateway.responses is not None
        batch, message = received.batch, link.unpack(received.payload, gateway.requests)
        signal.setitimer(signal.ITIMER_REAL, self._batch_timeout)
        try:
            outputs, taken, faults, invalid = self._worker.run(message, check=bool(received.flags & link.CHECK))
            said = b""
            if faults or invalid:
                failed = {row: _told(error) for row, error in faults.items()}
                said = json.dumps({"failed": failed, "invalid": invalid}).encode()
            return link.pack(link.RESULT, batch, outputs, gateway.responses, rows=message.rows, nanoseconds=taken, extra=said)
        except HeadgateError as error:
            return _error_frame(error, batch)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stream(self, gateway: GatewayLink, batch: int, payload: memoryview) -> bool:
        """Answer in parts, each sent as it comes; False when the gateway has gone."""
        assert gateway.requests is not None and gateway.responses is not None
        # A copy: what comes meanwhile is read into the buffer that the payload lies in.
        message = link.unpack(memoryview(bytes(payload)), gateway.requests)
        way = PartsUnderWay(gateway, batch)
        try:
            taken = self._send_parts(self._worker.stream(message), way)
            last = link.pack(link.RESULT, batch, [], gateway.responses, rows=message.rows, nanoseconds=taken)
        except HeadgateError as error:
            last = _error_frame(error, batch)
        gateway.send(last)
        if way.told_to_end:
            raise Ended
        return not way.gone

    def _send_parts(self, parts: Generator[tuple[list[link.Packed], int], None, int], way: PartsUnderWay) -> int:
        """Return the nanoseconds the model took."""
        taken = 0
        while not way.unwanted:
            signal.setitimer(signal.ITIMER_REAL, self._batch_timeout)
            try:
                outputs, taken = next(parts)
            except StopIteration as end:
                return int(end.value)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            way.send(outputs, taken)
        signal.setitimer(signal.ITIMER_REAL, self._batch_timeout)
        parts.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return taken

    def _connect_all(self) -> list[GatewayLink]:
        return [gateway for gateway in self._links if gateway.socket is None and gateway.connect(self._hello)]

    def _tell_all(self, frame: bytes) -> None:
        for gateway in self._links:
            gateway.send(frame)

    def _end(self, signum: int, stack: object) -> None:
        self._ending = True
        if self._idle:
            raise Ended


def _error_frame(error: HeadgateError, batch: int) -> bytes:
    """Return the answer that says why there is none."""
    return link.frame(link.ERROR, json.dumps(_told(error)).encode(), batch)


def _told(error: HeadgateError) -> dict[str, str]:
    """Return what the gateway is told of an error; its cause goes to the log."""
    if error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    return {"code": error.code, "message": for_clients(str(error))}


def main() -> int:
    """Run a replica as ``HEADGATE_CONFIG`` says."""
    streams.never_fail()
    return Replica(json.loads(os.environ["HEADGATE_CONFIG"])).run()
