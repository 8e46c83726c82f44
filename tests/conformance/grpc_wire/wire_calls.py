"""Calls of gRPC made by hand: every byte of a message's frame, and every DATA frame, is the test's."""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from http2_caller import GRPC, SERVICE, Caller
from serving import Server, eventually

from headgate.protocols.oip import OIPGrpc
from headgate.serving.wire.http2.frames import (
    END_STREAM,
    FRAME_HEAD,
    HEADERS,
    WINDOW_UPDATE,
    frame,
    settings,
    unpack_head,
    window_update,
)  # fmt: skip

INFER, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
Request = OIPGrpc.messages.message("inference.ModelInferRequest")
Response = OIPGrpc.messages.message("inference.ModelInferResponse")
WINDOW = 4


class Outcome(NamedTuple):
    """How a stream ended."""

    fields: Mapping[str, str]
    """Headers and trailers; the last of a name."""
    blocks: int
    """Header blocks: one where there were trailers only."""
    body: bytes

    @property
    def status(self) -> int:
        """The status of gRPC."""
        return int(self.fields["grpc-status"])

    @property
    def text(self) -> str:
        """The text of an error, as it stands in the trailers."""
        return self.fields.get("grpc-message", "")

    @property
    def answer(self) -> Any:
        """The only message."""
        size = int.from_bytes(self.body[1:5], "big")
        assert self.status == 0 and len(self.body) == 5 + size, self
        return Response.FromString(zlib.decompress(self.body[5:], 31) if self.body[0] else self.body[5:])


class Wire(Caller):
    """A connection on which any frame may be sent."""

    def __init__(self, server: Server, *, window: int = 1 << 30) -> None:
        """``window``: what the server may send on each stream before it is granted more."""
        super().__init__(server)
        self.room: dict[int, int] = defaultdict(lambda: 1 << 20)
        """What may be sent on each stream, and on all (0), before the server grants more."""
        self.room[0] = 65535
        self.put(settings([(WINDOW, window)]) + window_update(0, 1 << 30))

    def put(self, data: bytes) -> None:
        """Send bytes as they are; a server that has closed is found out by reading."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def begin(self, path: str, headers: Mapping[str, str] = {}, *, end: bool = False, method: str = "POST", host: str = "") -> int:
        """Send the headers of a request; of gRPC unless they name another content type."""
        stream_id, self._next = self._next, self._next + 2
        given = {**GRPC, **headers}
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host or self._host)]
        block = self._encoder.encode([*fields, *((name, value) for name, value in given.items() if value)])
        self.put(frame(HEADERS, 4 | (END_STREAM if end else 0), stream_id, block))
        return stream_id

    def call(self, data: bytes, headers: Mapping[str, str] = {}, path: str = INFER, **options: Any) -> Outcome:
        """Make a call with these bytes for a body, and wait for its end."""
        stream_id = self.begin(path, headers, **options)
        self.send(stream_id, data, end=True)
        return self.outcome(stream_id)

    def send(self, stream_id: int, data: bytes, *, end: bool = False, piece: int = 1 << 14) -> None:
        """Send a body in frames of at most ``piece`` bytes, as the first window allows."""
        parts = [data[at : at + piece] for at in range(0, len(data), piece)] or [b""]
        last = len(parts) - 1
        self.room[0] -= len(data)
        self.room[stream_id] -= len(data)
        self.put(b"".join(frame(0, END_STREAM if end and at == last else 0, stream_id, part) for at, part in enumerate(parts)))

    def outcome(self, stream_id: int) -> Outcome:
        """Wait for the end of a stream."""
        self.until_end(stream_id)
        names = [name for name, _ in self.headers[stream_id]]
        blocks = 1 if names.count("grpc-status") and not self.bodies[stream_id] and "content-length" not in names else 2
        return Outcome(dict(self.headers[stream_id]), blocks, self.bodies[stream_id])

    def settle(self) -> None:
        """Wait until the server has read all that was sent."""
        assert infer(self).answer.model_name == "sum"

    def step(self, *, grant: bool = True) -> None:
        """Read one frame; of windows, note what they grant. Room is given by `grant` alone."""
        word, _, stream_id = unpack_head(self._file.peek(FRAME_HEAD)[:FRAME_HEAD].ljust(FRAME_HEAD, b"\0"), 0)
        if word & 0xFF == WINDOW_UPDATE and word >> 8 == 4:
            self.room[stream_id] += int.from_bytes(self._file.read(FRAME_HEAD + 4)[FRAME_HEAD:], "big")
        else:
            super().step(grant=False)

    def pour(self, stream_id: int, data: bytes, *, end: bool = True) -> None:
        """Send a body of any size, as the windows allow, until the server wants no more."""
        at = 0
        while at < len(data) and stream_id not in self.ended:
            most = min(self.room[0], self.room[stream_id], 1 << 14, len(data) - at)
            if most <= 0:
                self.step()
                continue
            self.put(frame(0, END_STREAM if end and at + most == len(data) else 0, stream_id, data[at : at + most]))
            at += most
            self.room[0] -= most
            self.room[stream_id] -= most


def both(rows: int = 1, model: str = "sum", **fields: Any) -> bytes:
    """Return a request to add two matrices of ``rows`` rows."""
    raw = struct.pack("<16f", *range(16)) * rows
    message = Request(model_name=model, raw_input_contents=[raw, raw], **fields)
    for name in "ab":
        message.inputs.add(name=name, datatype="FP32", shape=[rows, 16])
    return bytes(message.SerializeToString())


def gate(value: int, model: str = "gate") -> bytes:
    """Return a request to the model that writes down what it computes."""
    message = Request(model_name=model, raw_input_contents=[struct.pack("<q", value)])
    message.inputs.add(name="x", datatype="INT64", shape=[1, 1])
    return bytes(message.SerializeToString())


def message(data: bytes, flag: int = 0) -> bytes:
    """Return one message as it stands on the wire."""
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


def infer(wire: Wire, headers: Mapping[str, str] = {}) -> Outcome:
    """Make a call that is in order."""
    return wire.call(message(both()), headers)


def queued(server: Server, model: str = "gate") -> float:
    """Return how many rows wait for a model."""
    return server.metric("headgate_queue_rows", deployment=model)


def held(server: Server, wire: Wire, value: int) -> int:
    """Hold the model ``gate`` until `let_go`; return the stream of the call that does."""
    stream_id = wire.begin(INFER)
    wire.send(stream_id, message(gate(value)), end=True)
    eventually(lambda: value in server.executed("gate-1"), "the gate is held")
    return stream_id


def let_go(server: Server, value: int) -> None:
    """Let the model go on."""
    server.package_file("gate-1", f"release{value}").touch()


def memory(server: Server) -> int:
    """Return the most bytes the gateway has had in memory."""
    status = Path(f"/proc/{server.gateway.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
