"""What an answer says of itself beside its content, where the client asks for it: where its time went, and how loaded its model is.

The load is told as an ORCA report, in its text and its JSON form, for load balancers that weigh their endpoints. Source: the header
``endpoint-load-metrics-format`` of Triton's HTTP endpoint, and the message ``xds.data.orca.v3.OrcaLoadReport``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.protocols.base import InferRequest, InferResponse

if TYPE_CHECKING:
    from headgate.serving.revision import Revision

TIMES, LOAD_TEXT, LOAD_JSON = 1, 2, 4
_FORMATS = {"text": LOAD_TEXT, "json": LOAD_JSON}


def wanted(headers: Mapping[str, str]) -> int:
    """Return what a request asks for; 0: nothing. A form of the report that is not known is none, as clients of ORCA expect."""
    times = TIMES if headers.get("x-headgate-timing", "") not in ("", "0", "false") else 0
    return times | _FORMATS.get(headers.get("endpoint-load-metrics-format", "").strip().lower(), 0)


def asides(wishes: int, request: InferRequest, response: InferResponse, revision: Revision | None) -> bytes:
    """Return the header lines that a request asks for; ``revision`` is the one that answered, if it is still there."""
    lines = b""
    if wishes & TIMES:
        lines = b"x-headgate-queue-ms: %.3f\r\nx-headgate-compute-ms: %.3f\r\nx-headgate-batch-rows: %d\r\n" % (
            ((request.started or request.arrived) - request.arrived) * 1e3, response.batch.compute * 1e3, response.batch.rows,
        )  # fmt: skip
    if wishes > TIMES and revision is not None:
        lines += b"endpoint-load-metrics: %b\r\n" % _report(revision, as_json=bool(wishes & LOAD_JSON))
    return lines


def _report(revision: Revision, *, as_json: bool) -> bytes:
    """1 is a utilization at which every replica computes and nothing waits; what waits is counted in full batches."""
    replicas, rows = len(revision.links), revision.waiting.rows
    busy = sum(bool(link.batch) for link in revision.links)
    utilization = round((busy + rows / revision.route.max_rows) / max(replicas, 1), 4)
    named: dict[str, Any] = {"queue_rows": rows, "ready_replicas": replicas}
    if as_json:
        return b"JSON " + msgspec.json.encode({"application_utilization": utilization, "named_metrics": named})
    told = ", ".join(f"named_metrics.{name}={value}" for name, value in named.items())
    return f"TEXT application_utilization={utilization}, {told}".encode()
