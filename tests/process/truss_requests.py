"""Ask servers the same, in JSON and in Truss's binary form: ``python -P truss_requests.py URL...``, in Truss's environment.

Prints, for each URL, the list of what came back: status and value, as Truss's own client reads it.
"""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import requests
import truss

sys.path.insert(0, str(Path(truss.__file__).parent / "templates" / "shared"))
from serialization import truss_msgpack_deserialize, truss_msgpack_serialize

JSON = [
    {"do": "echo", "value": [1, 2.5, None, True, "é", {"a": []}]},
    {"do": "numpy"},
    {"do": "config"},
    {"do": "raise"},
    {"do": "bytes"},
    {"do": "http"},
    {"do": "slow", "value": 1},
]
BINARY = [
    {"do": "echo", "value": np.arange(6, dtype=np.float32).reshape(2, 3)},
    {
        "do": "echo",
        "value": {"when": datetime(2024, 5, 31, tzinfo=UTC), "day": date(2024, 5, 31), "cost": Decimal("1.50")},
    },
    {"do": "kind", "value": np.int64(3)},
    {"do": "kind", "value": b"\x00\xff"},
    {"do": "numpy"},
    {"do": "bytes"},
    {"do": "raise"},
]


def told(value):
    """Return a value as JSON that says what it was."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: told(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [told(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else {"of": type(value).__name__, "is": str(value)}


def asked(url):
    """Return the answers of one server."""
    for value in JSON:
        answer = requests.post(url, json=value, timeout=60)
        yield answer.status_code, answer.json() if answer.ok else answer.headers.get("x-baseten-error-code")
    for value in BINARY:
        headers = {"content-type": "application/octet-stream"}
        answer = requests.post(url, data=truss_msgpack_serialize(value), headers=headers, timeout=60)
        content = answer.content
        if not answer.ok:
            yield answer.status_code, answer.headers.get("x-baseten-error-code")
        elif value["do"] == "bytes":
            yield answer.status_code, "bytes"
        else:
            yield answer.status_code, told(truss_msgpack_deserialize(content))
    answer = requests.post(url, data=b"{not json", headers={"content-type": "application/json"}, timeout=60)
    yield answer.status_code, answer.headers.get("x-baseten-error-code")


if __name__ == "__main__":
    print(json.dumps([list(asked(url)) for url in sys.argv[1:]]))
