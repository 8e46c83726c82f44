"""MLflow's scoring protocol and SageMaker's container contract: the same two paths, which name no model.

    POST /invocations     to the default deployment: --default-deployment, else the only one
    GET  /ping, /health   200 when that deployment would compute a request now
    GET  /version         Headgate's version

From MLflow (mlflow 3.17: pyfunc/scoring_server/__init__.py, utils/proto_json_utils.py): ``application/json`` with exactly one of
``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``, and ``params``; ``text/csv`` with a header; columns that no
input is called are left out (the answer names them in ``x-headgate-ignored``); null is NaN; the answer is ``{"predictions": ...}``;
errors are ``{"error_code", "message"}``; other content types are 415.

From SageMaker (its documentation of containers and of common data formats; sagemaker-inference 1.10): ``text/csv`` without a header,
``Accept: text/csv`` for an answer without one, 406 for other kinds of answer, ``X-Amzn-SageMaker-Custom-Attributes`` not looked at.
Whether there is a header is seen by the first line (`tables.has_header`), or said: ``text/csv; header=absent`` (RFC 4180).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from headgate import __version__
from headgate.errors import HeadgateError, NotAcceptable, NotReady, Unsupported, UnsupportedMedia
from headgate.json_tensors import encode_values
from headgate.protocols.base import Catalogue, InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route, error_reply
from headgate.protocols.base.rows import answer_rows, columns, predictions
from headgate.protocols.mlflow.frames import MALFORMED, read_json
from headgate.protocols.mlflow.tables import read_csv, write_csv
from headgate.tensors import Buffer

_JSON, _CSV = "application/json", "text/csv"
_PLAIN = b"text/plain; charset=utf-8"
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""MLflow's words by status; other statuses from 500 on are INTERNAL_ERROR, below BAD_REQUEST."""


class Wire(NamedTuple):
    """What the answer must know of the request."""

    plan: Plan
    csv: bool
    ignored: Sequence[str]


class MLflow(Protocol):
    """`/invocations`, `/ping`, `/health` and `/version`."""

    name: ClassVar[str] = "mlflow"
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", "/invocations", "infer"),
        Route("GET", "/ping", "ping"),
        Route("GET", "/health", "ping"),
        Route("GET", "/version", "version"),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read a scoring request in the form that its content type says."""
        if "x-amzn-sagemaker-target-model" in request.headers:
            raise Unsupported(
                "X-Amzn-SageMaker-Target-Model: this path always means the default deployment; nothing was computed. Ask another "
                "deployment at /predict/NAME"
            )
        wants_csv = _wants_csv(request.headers.get("accept", ""))
        media, options = _media(request.headers.get("content-type", _JSON))
        if media == _JSON:
            infer, ignored = read_json(body, plan)
        else:
            infer, ignored = read_csv(body, plan, options.get("header"))
        infer.wire = Wire(plan, wants_csv, ignored)
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the predictions as JSON or CSV, and say what of the request was not used."""
        wire: Wire = request.wire
        headers = _ignored(wire.ignored)
        if wire.csv:
            return Reply(write_csv(wire.plan, response), b"text/csv; charset=utf-8", headers=headers)
        return Reply(encode_values({"predictions": _laid_out(wire.plan, response)}), headers=headers)

    def encode_error(self, error: HeadgateError) -> Reply:
        """``{"error_code": MLflow's word, "message": text}``."""
        reply = error_reply(error)
        text = msgspec.json.decode(reply.body)["error"]
        word = _CODES.get(reply.status, "INTERNAL_ERROR" if reply.status >= 500 else "BAD_REQUEST")
        if text.startswith(MALFORMED):
            word = "BAD_REQUEST"
        return msgspec.structs.replace(reply, body=msgspec.json.encode({"error_code": word, "message": text}))

    def ping(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Whether `/invocations` would compute now."""
        deployment = catalogue.deployment(None)
        if not deployment.ready:
            raise NotReady(f"model '{deployment.name}' is not at ready state: no replica of it answers; retry later")
        return Reply(b"\n", _PLAIN)

    def version(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """The version of the server, as text."""
        return Reply(__version__.encode(), _PLAIN)


# ---- headers


def _media(text: str) -> tuple[str, dict[str, str]]:
    """Return the content type and what it says of a CSV. Raises `UnsupportedMedia`."""
    media, *rest = (part.strip() for part in text.split(";"))
    media = media.lower()
    options = {key.strip().lower(): value.strip().strip('"').lower() for key, _, value in (part.partition("=") for part in rest)}
    if media not in (_JSON, _CSV):
        raise UnsupportedMedia(f"Content-Type: this path takes {_JSON} and {_CSV}, got {text[:100]!r}; nothing was computed")
    if options.pop("charset", "utf-8") not in ("utf-8", "utf8"):
        raise UnsupportedMedia(f"Content-Type: only UTF-8 is read, got {text[:100]!r}; nothing was computed")
    allowed = {"header": ("present", "absent"), "label_size": ("0",)} if media == _CSV else {}
    for key, value in options.items():
        if value not in allowed.get(key, ()):
            raise UnsupportedMedia(
                f"Content-Type: the parameter {f'{key}={value}'[:100]!r} is not known; {_CSV} may have header=present, header=absent and "
                "label_size=0"
            )
    return media, options


def _wants_csv(accept: str) -> bool:
    """Whether the client prefers CSV to JSON. Raises `NotAcceptable` if it takes neither."""
    if not accept.strip():
        return False
    qualities = {}
    for part in accept.lower().split(","):
        media, *options = (piece.strip() for piece in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        qualities[media] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0
    plain, table = (_quality(media, qualities) for media in (_JSON, _CSV))
    if not plain and not table:
        raise NotAcceptable(f"Accept: answers here are {_JSON} or {_CSV}, got {accept[:100]!r}; nothing was computed")
    return table > plain


def _quality(media: str, qualities: Mapping[str, float]) -> float:
    ranges = (media, f"{media.partition('/')[0]}/*", "*/*")
    return next((qualities[name] for name in ranges if name in qualities), 0.0)


def _laid_out(plan: Plan, response: InferResponse) -> Any:
    """Return the predictions as the model's own server would give them: a list, records, or an object of columns."""
    if plan.signature.answers == "columns":
        return columns(plan, response)
    if plan.signature.answers == "records" and not plan.batched:
        found = columns(plan, response)
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    rows: list[Any] = answer_rows(plan, response) if plan.signature.answers == "records" else predictions(plan, response)
    return rows if plan.batched else rows[0]


def _ignored(names: Sequence[str]) -> bytes:
    """Return the header that says what of a request was not used."""
    if not names:
        return b""
    # JSON in ASCII has no character that could end the header, but for one that may not be in it.
    return b"x-headgate-ignored: %b\r\n" % json.dumps(list(names))[:1000].replace("\x7f", "\\u007f").encode()
