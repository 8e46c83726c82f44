"""Bodies of the Open Inference Protocol V2, and how to read its answers."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.models import Model

LENGTH_HEADER = "Inference-Header-Content-Length"


def short(value: float) -> float:
    """The value with the seven digits that a float32 has, as clients write it."""
    return float(f"{value:.7g}")


def json_body(of: Model) -> bytes:
    """The example input with its values in JSON."""
    tensor = {"name": of.input, "shape": of.shape, "datatype": "FP32", "data": [short(value) for value in of.data]}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def binary_body(of: Model) -> tuple[bytes, int]:
    """The example input with its values after the JSON, binary answers asked for; and the length of the JSON."""
    parameters = {"binary_data_size": len(of.raw)}
    tensor = {"name": of.input, "shape": of.shape, "datatype": "FP32", "parameters": parameters}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return header + of.raw, len(header)


def floats(raw: bytes) -> list[float]:
    """Little-endian FP32 values."""
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def flat(value: object) -> list[float]:
    """The numbers of nested lists, in order."""
    if isinstance(value, list):
        return [number for part in value for number in flat(part)]
    return [float(str(value))]


def answer(headers: Mapping[str, str], body: bytes) -> list[float]:
    """Values of the first output, from JSON or from what follows it. Header names in lower case."""
    length = int(headers.get(LENGTH_HEADER.lower(), len(body)))
    output = json.loads(body[:length])["outputs"][0]
    if "data" in output:
        return flat(output["data"])
    return floats(body[length : length + output["parameters"]["binary_data_size"]])
