"""Triton's model configuration extension: a deployment in the words of Triton's ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Catalogue
from headgate.routes import RevisionRoute


def model_config(catalogue: Catalogue, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a deployment, or of a version of it. Raises `UnknownModel`, `NotReady`, `InvalidRequest`."""
    name, version = asked.get("name"), asked.get("version") or None
    if not name:
        raise InvalidRequest("name: it is missing; say whose configuration is asked for")
    deployment = catalogue.deployment(name, version)
    route, signature = deployment.served(version), deployment.plan(version).signature
    config = {
        "name": deployment.name,
        "platform": route.platform,
        # Platforms are named <project>_<format>, and Triton's back ends are named for the project.
        "backend": route.platform.partition("_")[0],
        "version_policy": {"specific": {"versions": deployment.versions()}},
        "max_batch_size": _max_batch_size(route, signature),
        "input": [_tensor(spec, signature) | ({"optional": True} if spec.optional else {}) for spec in signature.inputs],
        "output": [_tensor(spec, signature) for spec in signature.outputs],
        "instance_group": [_instances(route)],
        "model_transaction_policy": {"decoupled": signature.streams},
    }
    # A model has one kind of scheduling.
    return {"config": config | (route.config or _scheduling(route, signature))}


def _tensor(spec: TensorSpec, signature: Signature) -> dict[str, Any]:
    """One input or output; a batch axis is not among its dimensions."""
    dtype = "STRING" if spec.dtype == "BYTES" else spec.dtype
    dims = spec.shape[1:] if signature.batched else spec.shape
    return {"name": spec.name, "data_type": f"TYPE_{dtype}", "dims": dims}


def _instances(route: RevisionRoute) -> dict[str, Any]:
    kind, _, number = route.device.partition(":")
    where = {"kind": "KIND_GPU", "gpus": [int(number or 0)]} if kind == "cuda" else {"kind": "KIND_CPU"}
    return {"name": route.name, "count": route.expected, **where}


def _max_batch_size(route: RevisionRoute, signature: Signature) -> int:
    """Rows of one batch; 0 without a batch axis. Requests of a sequence have one row, and are batches of their own."""
    if not signature.batched:
        return 0
    return 1 if signature.stateful else route.max_rows


def _scheduling(route: RevisionRoute, signature: Signature) -> dict[str, Any]:
    if signature.stateful:
        return {"sequence_batching": {"max_sequence_idle_microseconds": round(route.sequence_idle * 1e6), "direct": {}}}
    if not signature.batched or route.max_rows == 1:
        return {}
    return {"dynamic_batching": {"max_queue_delay_microseconds": round(route.max_delay * 1e6)}}
