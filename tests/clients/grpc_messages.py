"""What the gRPC clients that know no Triton send and read: messages built from the server's descriptors, without Headgate's code."""

from __future__ import annotations

import random
import struct
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

URL, GATE, MESSAGES = sys.argv[1:4]
SERVICE = "/inference.GRPCInferenceService/"
SECONDS = 60
ROW = struct.pack("<16f", *range(16))

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(Path(MESSAGES).read_bytes()).file:
    _POOL.Add(_file)


def message(name):
    """Return the class of a message of the package ``inference``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


Request, Response = message("ModelInferRequest"), message("ModelInferResponse")
Streamed = message("ModelStreamInferResponse")


def both(rows=1, model="sum", **fields):
    """Return a request to ``sum`` with raw tensors."""
    request = Request(model_name=model, raw_input_contents=[ROW * rows, ROW * rows], **fields)
    for name in "ab":
        request.inputs.add(name=name, datatype="FP32", shape=[rows, 16])
    return request


def gate(value):
    """Return a request to ``gate``, typed; a negative value holds it until it is released."""
    request = Request(model_name="gate")
    request.inputs.add(name="x", datatype="INT64", shape=[1, 1]).contents.int64_contents.append(value)
    return request


@contextmanager
def held():
    """Give a value that holds ``gate`` until the end of the block, come what may."""
    value = -random.randrange(1, 2**40)
    try:
        yield value
    finally:
        (Path(GATE) / f"release{value}").touch()


def gate_metric(name):
    """Return the sum of the samples of a metric of the deployment ``gate``, asked for over HTTP on the same port."""
    with urllib.request.urlopen(f"http://{URL}/metrics", timeout=SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{") and 'deployment="gate"' in line)


def eventually(condition):
    """Wait until ``condition`` holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def executed(value):
    """Whether the model ``gate`` has begun to compute ``value``."""
    path = Path(GATE) / "executed"
    return path.exists() and str(value) in path.read_text().split()


def is_sum(response, rows=1):
    """Whether this is the answer to `both`."""
    doubled = struct.pack("<16f", *(2 * number for number in range(16))) * rows
    return list(response.raw_output_contents) == [doubled, bytes(64 * rows)]
