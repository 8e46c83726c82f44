"""The metrics of a model under Triton's names, for dashboards and alerts that know those.

Source: triton-inference-server/server, docs/user_guide/metrics.md. They are worked out from what is counted anyway, when they are asked
for. Times are in microseconds, and of a request's time that of its whole batch counts as its own, as Triton has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from headgate.protocols.base import Catalogue, Statistics
from headgate.telemetry import labels_text

_REJECTED, _CANCELED, _BACKEND, _OTHER = "REJECTED", "CANCELED", "BACKEND", "OTHER"
_REASONS = {429: _REJECTED, 504: _REJECTED, 500: _BACKEND, 503: _BACKEND}
"""Status -> reason of a failure; all others are `_OTHER`."""
_COUNTERS: tuple[tuple[str, str, Callable[[Statistics], int]], ...] = (
    ("nv_inference_request_success", "Requests answered well.", lambda of: of.answered.count),
    ("nv_inference_count", "Rows computed.", lambda of: of.rows),
    ("nv_inference_exec_count", "Batches computed.", lambda of: of.batches),
    ("nv_inference_request_duration_us", "Time of requests answered well.", lambda of: _us(of.answered.seconds)),
    ("nv_inference_queue_duration_us", "Time that requests waited for a replica.", lambda of: _us(of.queued.seconds)),
    ("nv_inference_compute_infer_duration_us", "Time the model took for requests.", lambda of: _us(of.computed.seconds)),
)
_FAILURE = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"


def exposition(catalogue: Catalogue) -> str:
    """Return the text."""
    counted = [(deployment.name, of) for deployment in catalogue.deployments() for of in deployment.statistics()]
    lines: list[str] = []
    for name, text, value in _COUNTERS:
        lines += _head(name, text, "counter")
        lines += [f"{name}{_labels(model, of)} {value(of)}" for model, of in counted]
    lines += _head(_FAILURE, "Requests refused or failed, by reason.", "counter")
    for model, of in counted:
        lines += [f"{_FAILURE}{_labels(model, of, reason=reason)} {count}" for reason, count in _failures(of)]
    lines += _head(_PENDING, "Requests that wait for a replica.", "gauge")
    lines += [f"{_PENDING}{_labels(model, of)} {of.pending}" for model, of in counted]
    return "\n".join(lines) + "\n"


def _failures(of: Statistics) -> Iterator[tuple[str, int]]:
    counts = dict.fromkeys((_REJECTED, _CANCELED, _BACKEND, _OTHER), 0)
    counts[_CANCELED] = of.abandoned
    for status, count in of.by_status.items():
        if status != 200:
            counts[_REASONS.get(status, _OTHER)] += count
    yield from counts.items()


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _labels(model: str, of: Statistics, **further: str) -> str:
    return labels_text((("model", model), ("version", str(of.version)), *further.items()))


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
