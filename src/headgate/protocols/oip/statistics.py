"""Triton's statistics extension: what was inferred, how long it took, and in batches of which size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headgate.protocols.base import Catalogue, Measured, Statistics


def statistics(catalogue: Catalogue, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was counted of all deployments, or of one (and a version of it)."""
    return {"model_stats": [_model(name, counted) for name, counted in _asked_for(catalogue, asked)]}


def _asked_for(catalogue: Catalogue, asked: Mapping[str, Any]) -> Iterable[tuple[str, Statistics]]:
    name, version = asked.get("name"), asked.get("version") or None
    if not name:
        return [(deployment.name, counted) for deployment in catalogue.deployments() for counted in deployment.statistics()]
    deployment = catalogue.deployment(name, version)
    number = None if version is None else deployment.number(version)
    return [(deployment.name, counted) for counted in deployment.statistics() if number in (None, counted.version)]


def _model(name: str, counted: Statistics) -> dict[str, Any]:
    # Copying in and out of tensors is not measured apart: it is in success, and in no other part.
    copied = {
        "compute_input": _duration(Measured(counted.computed.count)),
        "compute_output": _duration(Measured(counted.computed.count)),
    }
    return {
        "name": name,
        "version": str(counted.version),
        "last_inference": round((counted.last or 0.0) * 1e3),
        "inference_count": counted.rows,
        "execution_count": counted.batches,
        "inference_stats": {
            "success": _duration(counted.answered),
            "fail": _duration(counted.failed),
            "queue": _duration(counted.queued),
            "compute_infer": _duration(counted.computed),
            "cache_hit": {},
            "cache_miss": {},
            **copied,
        },
        "batch_stats": [
            {
                "batch_size": size.rows,
                "compute_input": _duration(Measured(size.computed.count)),
                "compute_infer": _duration(size.computed),
                "compute_output": _duration(Measured(size.computed.count)),
            }
            for size in counted.sizes
        ],
    }


def _duration(measured: Measured) -> dict[str, int]:
    return {"count": measured.count, "ns": round(measured.seconds * 1e9)}
