"""What goes over the wire: requests and answers as values, and tensors in the Open Inference Protocol's binary form.

Nothing here does input or output. Source: the binary tensor data extension of the Open Inference Protocol V2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import HeadgateError, by_code
from headgate.tensors import DTYPES, dtype_of, from_numpy, to_numpy

if TYPE_CHECKING:
    import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]

HEAD_LENGTH = "inference-header-content-length"
"""Header that says how many bytes of the body are JSON; the tensors follow."""


class Request(NamedTuple):
    """One HTTP request to be sent."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout: float | None = None
    """Seconds the answer may take; None: as the client says."""


class Response(NamedTuple):
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Field(NamedTuple):
    """One input or output of a deployment."""

    name: str
    dtype: str
    """Open Inference Protocol name: ``FP32``, ``BYTES``, ..."""
    shape: tuple[int, ...]
    """Every dimension, the batch axis included; -1 varies."""
    optional: bool = False
    """It may be left out."""


class Metadata(NamedTuple):
    """What a deployment takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    streams: bool = False
    """It answers in parts."""


def read_metadata(response: Response) -> Metadata:
    """Parse the answer to ``GET /v2/models/{name}``. Raises `HeadgateError` if it is none."""
    try:
        fields = json.loads(response.body)
        return Metadata(
            name=fields["name"],
            versions=tuple(fields.get("versions", ())),
            platform=fields.get("platform", ""),
            inputs=_fields(fields["inputs"]),
            outputs=_fields(fields["outputs"]),
            streams=fields.get("streams", False) is True,
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise HeadgateError(f"the answer is no metadata ({error}); is the client's URL that of an inference port?") from error


def _fields(items: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    return tuple(Field(item["name"], item["datatype"], tuple(item["shape"]), item.get("optional", False) is True) for item in items)


def pack(kind: str, arrays: Mapping[str, tuple[str, np.ndarray[Any, Any]]], head: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return the length of the JSON and the whole body that carries ``arrays`` (name -> dtype, array) in binary.

    ``kind`` is ``inputs`` or ``outputs``; ``head`` are the other members of the JSON.
    """
    described: list[dict[str, Any]] = []
    blobs: list[Any] = []
    for name, (dtype, array) in arrays.items():
        blob = from_numpy(DTYPES[dtype], array)
        blobs.append(blob)
        parameters = {"binary_data_size": len(blob)}
        described.append({"name": name, "datatype": dtype, "shape": list(array.shape), "parameters": parameters})
    text = json.dumps({**head, kind: described}, separators=(",", ":")).encode()
    return len(text), b"".join([text, *blobs])


def unpack(kind: str, head_length: str | None, body: bytes) -> tuple[dict[str, Any], Arrays]:
    """Return the JSON and the arrays of a body: the inverse of `pack`; tensors in the JSON itself are read too.

    BYTES come back as `str` (UTF-8; other bytes are kept by ``surrogateescape``). Raises `HeadgateError` for what is no such body.
    """
    try:
        length = len(body) if head_length is None else int(head_length)
        if not 0 <= length <= len(body):
            raise ValueError(f"{HEAD_LENGTH} says {length} of {len(body)} bytes")
        head: dict[str, Any] = json.loads(body[:length])
        return head, dict(_tensors(head[kind], memoryview(body)[length:]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise HeadgateError(f"the answer is broken ({error}), nothing of it is used; is this an inference port?") from error


def _tensors(described: Sequence[Mapping[str, Any]], rest: memoryview) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for item in described:
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            yield item["name"], _from_json(item)
            continue
        if not 0 <= size <= len(rest):
            raise ValueError(f"{item['name']!r} has {len(rest)} bytes, {size} were announced")
        yield item["name"], _readable(to_numpy(DTYPES[item["datatype"]], item["shape"], rest[:size]))
        rest = rest[size:]
    if rest:
        raise ValueError(f"{len(rest)} bytes are left over")


def _from_json(item: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    dtype = item["datatype"]
    return np.array(item["data"], dtype="float32" if dtype == "BF16" else DTYPES[dtype].numpy).reshape(item["shape"])


def _readable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a BYTES array as one of `str`, every other as it is."""
    import numpy as np

    if array.dtype != object:
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [item.decode("utf-8", "surrogateescape") for item in array.ravel()]
    return texts.reshape(array.shape)


def guess_dtype(array: np.ndarray[Any, Any]) -> str:
    """Return the protocol's name of an array's dtype. Raises `TypeError` where it has none."""
    return dtype_of(array)


def check(response: Response) -> Response:
    """Return ``response`` if it is a success, else raise the error it stands for, as `headgate.errors` has it."""
    if response.status == 200:
        return response
    try:
        fields = json.loads(response.body)
        message, code = str(fields["error"]), fields.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = f"the server answered {response.status} without a reason", None
    error = by_code(code, message) if code else _by_status(response.status, message)
    retry_after = response.headers.get("retry-after", "")
    if retry_after.isdecimal():
        error.retry_after = float(retry_after)
    raise error


def _by_status(status: int, message: str) -> HeadgateError:
    """Return an error of the topmost class that has ``status``; other client errors are invalid requests."""
    level = [HeadgateError]
    while level:
        for kind in level:
            if kind.status == status and kind is not HeadgateError:
                return kind(message)
        level = [below for kind in level for below in kind.__subclasses__()]
    return by_code("invalid_request" if 400 <= status < 500 else "internal", message)
