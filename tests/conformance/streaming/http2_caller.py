"""A blocking client of HTTP/2 and gRPC whose windows a test rules: what it does not read, it grants no room for."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import hpack
from serving import Server

from headgate.protocols.oip import OIPGrpc
from headgate.serving.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    frame,
    settings,
    unpack_head,
    window_update,
)

SERVICE = "/inference.GRPCInferenceService"


class Caller:
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._socket = server.connect()
        self._file = self._socket.makefile("rb")
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._next = 1
        self._host = f"{server.address}:{server.port}"
        self.headers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        """Of each stream, trailers included."""
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.codes: dict[int, int] = {}
        """Why streams were reset."""
        self._socket.sendall(PREFACE + settings([]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()

    def ask(self, path: str, body: bytes, headers: Mapping[str, str] = {}, *, end: bool = True) -> int:
        """Send a request and return the number of its stream."""
        stream_id, self._next = self._next, self._next + 2
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", self._host), *headers.items()]
        block = self._encoder.encode(fields)
        self._socket.sendall(frame(HEADERS, END_HEADERS, stream_id, block) + frame(DATA, END_STREAM if end else 0, stream_id, body))
        return stream_id

    def more(self, stream_id: int, body: bytes, *, end: bool = False) -> None:
        """Send a further part of a request."""
        self._socket.sendall(frame(DATA, END_STREAM if end else 0, stream_id, body))

    def reset(self, stream_id: int) -> None:
        """Cancel a stream."""
        self._socket.sendall(frame(RST_STREAM, 0, stream_id, struct.pack(">I", 8)))

    def grant(self, stream_id: int, size: int) -> None:
        """Give room, on a stream or (0) on the connection."""
        self._socket.sendall(window_update(stream_id, size))

    def step(self, *, grant: bool = True) -> None:
        """Read one frame; ``grant``: give room again for what it brought."""
        word, flags, stream_id = unpack_head(self._file.read(FRAME_HEAD), 0)
        kind, payload = word & 0xFF, self._file.read(word >> 8)
        if kind == HEADERS:
            assert flags & END_HEADERS
            self.headers[stream_id] += [(str(name), str(value)) for name, value in self._decoder.decode(payload)]
        elif kind == DATA:
            self.bodies[stream_id] += payload
            if grant and payload:
                self._socket.sendall(window_update(0, len(payload)) + window_update(stream_id, len(payload)))
        elif kind == SETTINGS and not flags:
            self._socket.sendall(SETTINGS_ACK)
        elif kind == RST_STREAM:
            self.codes[stream_id] = int.from_bytes(payload, "big")
            self.ended.add(stream_id)
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.ended.add(stream_id)

    def until_end(self, stream_id: int) -> None:
        """Read until a stream has ended."""
        while stream_id not in self.ended:
            self.step()

    def until(self, stream_id: int, size: int) -> None:
        """Read until at least ``size`` bytes of a body are there."""
        while len(self.bodies[stream_id]) < size:
            self.step()

    def field(self, stream_id: int, name: str) -> str:
        """Return the last field of a name."""
        return dict(self.headers[stream_id])[name]


def framed(*messages: Any) -> bytes:
    """Return messages as a gRPC stream has them."""
    return b"".join(b"\0" + len(data).to_bytes(4, "big") + data for data in (message.SerializeToString() for message in messages))


def request(model: str, inputs: Mapping[str, tuple[str, bytes]], *, version: str = "", id: str = "", **parameters: Any) -> Any:
    """Return a ``ModelInferRequest``: of each input its datatype and raw bytes; its shape is ``[1]``."""
    message = OIPGrpc.messages.message("inference.ModelInferRequest")(model_name=model, model_version=version, id=id)
    for name, (datatype, raw) in inputs.items():
        message.inputs.add(name=name, datatype=datatype, shape=[1])
        message.raw_input_contents.append(raw)
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[key], kind, value)
    return message


def text(words: str) -> dict[str, tuple[str, bytes]]:
    """Return the input of ``words``."""
    raw = words.encode()
    return {"text": ("BYTES", len(raw).to_bytes(4, "little") + raw)}


def messages(body: bytes, name: str = "inference.ModelStreamInferResponse") -> list[Any]:
    """Return the messages that have come whole."""
    found, at = [], 0
    while at + 5 <= len(body):
        size = int.from_bytes(body[at + 1 : at + 5], "big")
        if at + 5 + size > len(body):
            break
        found.append(OIPGrpc.messages.message(name).FromString(body[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


GRPC = {"content-type": "application/grpc", "te": "trailers"}


class Stream:
    """One call of ``ModelStreamInfer``."""

    def __init__(self, caller: Caller, first: Any, headers: Mapping[str, str] = {}, *, end: bool = False) -> None:
        self.caller = caller
        self.id = caller.ask(f"{SERVICE}/ModelStreamInfer", framed(first), {**GRPC, **headers}, end=end)

    def send(self, *given: Any, end: bool = False) -> None:
        """Send further requests."""
        self.caller.more(self.id, framed(*given), end=end)

    def close(self) -> None:
        """Send no more."""
        self.caller.more(self.id, b"", end=True)

    @property
    def got(self) -> list[Any]:
        """The messages that have come."""
        return messages(self.caller.bodies[self.id])

    def take(self, count: int) -> list[Any]:
        """Wait until there are ``count`` messages, and return all."""
        while len(self.got) < count:
            assert self.id not in self.caller.ended, f"it has ended with {self.got}, {self.caller.headers[self.id]}"
            self.caller.step()
        return self.got

    def finish(self) -> list[Any]:
        """Wait for the end, and return all messages."""
        self.caller.until_end(self.id)
        return self.got

    @property
    def status(self) -> tuple[str, str]:
        """The status at the end, and its text."""
        fields = dict(self.caller.headers[self.id])
        return fields["grpc-status"], fields.get("grpc-message", "")


def words_of(found: Iterable[Any]) -> list[str]:
    """Return the only output of each answer, as text; of errors their text."""
    return [item.error_message or b"".join(item.infer_response.raw_output_contents)[4:].decode() for item in found]
