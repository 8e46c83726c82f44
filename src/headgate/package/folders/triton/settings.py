"""What a ``config.pbtxt`` asks of the deployment: replicas, batches, the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headgate.errors import UnsupportedModel

_NVIDIA = Path("/dev/nvidiactl")
"""There where a GPU's driver is loaded."""


def settings_of(config: Any, where: str, *, gpu: bool | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the (partial) fields of a deployment's spec, and a sentence for what is not as it is asked for.

    ``gpu``: whether this machine has one; None: look. Raises `UnsupportedModel` for groups that no deployment can be.
    """
    batching: dict[str, Any] = {}
    if config.max_batch_size > 0:
        batching["max_rows"] = config.max_batch_size
    if delay := config.dynamic_batching.max_queue_delay_microseconds:
        batching["max_delay"] = delay / 1e6
    settings, warnings = _instances(config.instance_group, where, _NVIDIA.exists() if gpu is None else gpu)
    return settings | ({"batching": batching} if batching else {}), warnings


def _instances(groups: Any, where: str, gpu: bool) -> tuple[dict[str, Any], list[str]]:
    if not groups:
        return {}, []
    path = f"{where}instance_group."
    negative = [group.count for group in groups if group.count < 0]
    if negative:
        raise UnsupportedModel(f"{path}count: expected 1 or more, got {negative[0]}")
    kinds = {_kind(group) for group in groups}
    if len(kinds) > 1:
        raise UnsupportedModel(f"{path}kind: all replicas of a model are alike, and this asks for {' and '.join(sorted(kinds))}")
    gpus = sorted({number for group in groups for number in group.gpus})
    if len(gpus) > 1:
        raise UnsupportedModel(f"{path}gpus: all replicas of a model share one device, and this asks for {gpus}; name one")
    count = sum(max(1, group.count) for group in groups)
    settings: dict[str, Any] = {"scale": {"min_replicas": count, "max_replicas": count}}
    if kinds == {"KIND_GPU"} and gpu:
        settings["resources"] = {"device": f"cuda:{gpus[0] if gpus else 0}"}
    elif kinds == {"KIND_GPU"}:
        return settings, [f"{path}kind: KIND_GPU, and this machine has no NVIDIA GPU: it computes on the CPU"]
    elif kinds == {"KIND_AUTO"} and gpu:
        return settings, [f"{path}kind: KIND_AUTO computes on the CPU here; --device cuda:0 puts it on the GPU"]
    return settings, []


def _kind(group: Any) -> str:
    kind: str = group.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[group.kind].name
    return "KIND_GPU" if kind == "KIND_AUTO" and group.gpus else kind
