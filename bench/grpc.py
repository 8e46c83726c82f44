"""gRPC: messages of the Open Inference Protocol written by hand, one call for the check, and load by h2load."""

from __future__ import annotations

import re
import shutil
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.load import LoadError, LoadResult, Request

if TYPE_CHECKING:
    from bench.models import Model

PATH = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = {"content-type": "application/grpc", "te": "trailers"}
_INPUTS, _RAW_INPUT, _RAW_OUTPUT = 5, 7, 6


def varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, data: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def request(of: Model) -> Request:
    """A ModelInferRequest with the example input, framed."""
    shape = b"".join(map(varint, of.shape))
    tensor = field(1, of.input.encode()) + field(2, b"FP32") + field(3, shape)
    message = field(1, of.name.encode()) + field(_INPUTS, tensor) + field(_RAW_INPUT, of.raw)
    return Request(PATH, b"\0" + len(message).to_bytes(4, "big") + message, HEADERS)


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length, all there are in an answer."""
    at = 0
    while at < len(message):
        tag, at = number_at(message, at)
        size, at = number_at(message, at)
        yield tag >> 3, message[at : at + size]
        at += size


def number_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def raw_output(body: bytes) -> bytes:
    """The first of ``raw_output_contents`` in a framed ModelInferResponse."""
    return next(data for number, data in fields(body[5:]) if number == _RAW_OUTPUT)


def ask(port: int, asked: Request, timeout: float = 10.0) -> tuple[int, dict[str, str], bytes]:
    """One call. Headers and trailers are returned together; a status of gRPC other than 0 is a status of 500."""
    # Of the test group, and needed for nothing else here.
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, ResponseReceived, StreamEnded, TrailersReceived

    found: dict[str, str] = {}
    body = b""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        connection.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", asked.path), (":authority", f"127.0.0.1:{port}")]
        connection.send_headers(1, [*pseudo, *asked.headers.items()])
        left = asked.body
        while True:
            while left and (room := min(connection.local_flow_control_window(1), connection.max_outbound_frame_size, len(left))):
                connection.send_data(1, left[:room], end_stream=room == len(left))
                left = left[room:]
            sock.sendall(connection.data_to_send())
            data = sock.recv(1 << 16)
            if not data:
                raise OSError("the connection was closed before the answer was whole")
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    found.update({str(name): str(value) for name, value in event.headers})
                elif isinstance(event, DataReceived):
                    body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, StreamEnded):
                    good = found.get("grpc-status") == "0"
                    return 200 if good else 500, found, body if good else found.get("grpc-message", "").encode()


def drive(url: str, body: Path, headers: dict[str, str], connections: int, streams: int, seconds: float) -> LoadResult:
    """Calls on `connections` connections, `streams` at a time on each, for `seconds`."""
    if shutil.which("h2load") is None:
        raise LoadError("h2load is not installed; on Debian: apt-get install nghttp2-client")
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        argv = ["h2load", f"-c{connections}", f"-m{streams}", "-t1", f"-D{max(1, round(seconds))}", "-d", str(body)]
        argv += [f"--log-file={log.name}", *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}")), url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
        times = sorted(int(line.split()[2]) / 1e3 for line in log)
    return parse(done.stdout, times, max(1, round(seconds)))


def parse(output: str, times: list[float], seconds: float) -> LoadResult:
    """What h2load says, with the milliseconds of each call beside it. It sees the status of HTTP only, which `ask` makes up for."""
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if counts is None or not times:
        raise LoadError(f"h2load gave no result: {output[-500:]}")
    succeeded, failed, errored, timeout = map(int, counts.groups())
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return LoadResult(succeeded, seconds, statistics.median(times), p99, failed + errored + timeout)
