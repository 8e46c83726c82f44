"""What a client does, as generators: they yield a `Request`, are sent its `Response`, and return the result.

Written once for `Client` and `AsyncClient`, which only carry the requests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from headgate.client.data import prepare
from headgate.client.parts import Asked, body_of, reader
from headgate.client.wire import HEAD_LENGTH, Metadata, Request, Response, check, pack, read_metadata, unpack
from headgate.errors import HeadgateError, InvalidRequest, Unsupported

T = TypeVar("T")
Steps = Generator[Request, Response, T]

Known = dict[tuple[str, str], Metadata]
"""What deployments take and give, by name and version, as far as a client has asked."""

_GRACE = 5.0
"""Seconds a server has to say itself that the time is over."""


class Options(NamedTuple):
    """What a caller may say beside the data."""

    version: int | str | None = None
    timeout: float | None = None
    parameters: Mapping[str, object] | None = None
    request_id: str | None = None


def predict(known: Known, deployment: str, data: Any, options: Options) -> Steps[Any]:
    """Run the deployment on ``data`` and return the answer as the same kind of thing."""
    if isinstance(data, list | tuple):
        return (yield from predict_rows(deployment, list(data), options))
    found = yield from _looked_up(known, deployment, options.version, streams=False)
    if found.streams:
        raise Unsupported(f"{deployment} gives its answer in parts: iterate over stream() instead; nothing was sent")
    typed, restore = prepare(data, found)
    head: dict[str, Any] = {"parameters": {**(options.parameters or {}), "binary_data_output": True}}
    if options.request_id is not None:
        head["id"] = options.request_id
    length, body = pack("inputs", typed, head)
    headers = {"content-type": "application/octet-stream", HEAD_LENGTH: str(length), **_headers(options)}
    answer = yield Request("POST", f"{_model(deployment, options.version)}/infer", headers, body, _patience(options))
    try:
        check(answer)
    except HeadgateError:
        # The deployment may have moved on to a version that takes something else; the next call asks again.
        known.pop(_place(deployment, options.version), None)
        raise
    return restore(unpack("outputs", answer.headers.get(HEAD_LENGTH), answer.body)[1])


def stream(known: Known, deployment: str, data: Any, options: Options) -> Steps[Asked]:
    """Return what is to be asked for, to have the deployment's answer to ``data`` in parts."""
    found = yield from _looked_up(known, deployment, options.version, streams=True)
    if not found.streams:
        raise Unsupported(f"{deployment} gives its answer as a whole: call predict() instead; nothing was sent")
    body, named = body_of(data, found, dict(options.parameters or {}))
    headers = {"content-type": "application/json", **_headers(options)}
    path = f"{_model(deployment, options.version)}/generate_stream"
    return Asked(Request("POST", path, headers, body, _patience(options)), reader(found, named))


def predict_rows(deployment: str, rows: Any, options: Options) -> Steps[Any]:
    """Run the deployment on rows of plain values: a dict for one, a list of them for several; the answer has the same form."""
    if options.parameters:
        raise InvalidRequest("parameters: rows carry none; send named arrays (a dict), which do")
    path = f"/predict/{quote(deployment, safe='')}" + (
        "" if options.version is None else f"/versions/{quote(str(options.version), safe='')}"
    )
    try:
        body = json.dumps(rows, separators=(",", ":"), default=_plain).encode()
    except TypeError as error:
        raise InvalidRequest(f"the rows cannot be written as JSON ({error}); give numbers, text, lists and None") from None
    answer = yield Request("POST", path, {"content-type": "application/json", **_headers(options)}, body, _patience(options))
    return json.loads(check(answer).body)


def metadata(deployment: str, version: int | str | None = None) -> Steps[Metadata]:
    """Ask what the deployment takes and gives."""
    return read_metadata(check((yield Request("GET", _model(deployment, version)))))


def ready(deployment: str | None = None) -> Steps[bool]:
    """Ask whether the server, or one deployment, is ready to answer."""
    answer = yield Request("GET", f"{_model(deployment, None)}/ready" if deployment else "/v2/health/ready")
    if answer.status not in (200, 400, 404, 503):
        check(answer)
    return answer.status == 200


def _place(deployment: str, version: int | str | None) -> tuple[str, str]:
    return deployment, "" if version is None else str(version)


def _looked_up(known: Known, deployment: str, version: int | str | None, *, streams: bool) -> Steps[Metadata]:
    """Return what is known of the deployment; it is asked for where it has not been, or should be another kind."""
    place = _place(deployment, version)
    if place not in known or known[place].streams is not streams:
        known[place] = yield from metadata(deployment, version)
    return known[place]


def _model(deployment: str, version: int | str | None) -> str:
    path = f"/v2/models/{quote(deployment, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _headers(options: Options) -> dict[str, str]:
    headers: dict[str, str] = {}
    timeout, request_id = options.timeout, options.request_id
    if timeout is not None:
        if not 0 < timeout < math.inf:
            raise InvalidRequest(f"timeout: expected more than 0 seconds, got {timeout}; nothing was sent")
        headers["x-headgate-timeout-ms"] = str(max(1, round(timeout * 1000)))
    if request_id is not None:
        # What the server takes, and what cannot be another header.
        if not (request_id.isascii() and request_id.isprintable() and 0 < len(request_id) <= 200):
            raise InvalidRequest(
                f"request_id: expected 1 to 200 printable ASCII characters, got {request_id[:50]!r}; nothing was sent"
            )
        headers["x-request-id"] = request_id
    return headers


def _patience(options: Options) -> float | None:
    return None if options.timeout is None else options.timeout + _GRACE


def _plain(value: Any) -> Any:
    """Return NumPy's scalars and arrays as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
