"""``ReloadConfigRequest``: the list of models that a client wants to be served, checked as far as it can be without the registry.

Sources: tensorflow/serving, apis/model_management.proto, config/model_server_config.proto and
model_servers/{model_service_impl,server_core}.cc.
"""

from __future__ import annotations

import re
from typing import Any

from headgate.errors import InvalidRequest, Unsupported
from headgate.journal import WishedModel
from headgate.spec import check_name

_LIST = "model_config_list"
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_ALL = (1 << 31) - 1
"""Versions, of which there are never so many."""


def read_list(message: Any) -> tuple[WishedModel, ...]:
    """Return the models of a request. Raises `InvalidRequest`, or `Unsupported` for what is not followed here, naming the field."""
    if message.metric_names:
        raise Unsupported("metric_names: metrics are not named in this request; read them at /metrics, and leave it out")
    kind = message.config.WhichOneof("config")
    if kind != _LIST:
        raise InvalidRequest(
            f"ServerConfig type '{kind or 'none'}' not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported "
            f"(send config.{_LIST})"
        )
    found: dict[str, WishedModel] = {}
    for at, entry in enumerate(message.config.model_config_list.config):
        model = _read(entry, f"{_LIST}.config[{at}].")
        if model.name in found:
            raise InvalidRequest(f"Illegal to list model {model.name} multiple times in config list ({_LIST}.config[{at}].name)")
        found[model.name] = model
    return tuple(found.values())


def _read(entry: Any, where: str) -> WishedModel:
    name = check_name(entry.name, f"{where}name")
    if entry.base_path and not _ABSOLUTE.match(entry.base_path):
        raise InvalidRequest(
            f"Expected model {name} to have an absolute path or URI; got base_path()={entry.base_path[:200]} ({where}base_path; it may be "
            "left out)"
        )
    if entry.model_platform not in ("", "tensorflow"):
        raise Unsupported(
            f"{where}model_platform: {entry.model_platform[:100]!r} is not one of TensorFlow Serving's; leave it out: the registry knows"
        )
    if entry.model_type == entry.DESCRIPTOR.fields_by_name["model_type"].enum_type.values_by_name["OTHER"].number:
        raise Unsupported(f"{where}model_type: OTHER is not known here; leave it out: the registry knows what a model is")
    if entry.HasField("logging_config"):
        raise Unsupported(f"{where}logging_config: requests are not written down as it says; leave it out")
    newest, versions = _policy(entry, where)
    return WishedModel(
        name=name,
        base_path=entry.base_path,
        newest=newest,
        versions=versions,
        labels=tuple(sorted(entry.version_labels.items())),
    )


def _policy(entry: Any, where: str) -> tuple[int, tuple[int, ...]]:
    """Return how many of the newest versions are served, or which ones; neither: the client does not say."""
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return _ALL, ()
    if choice == "latest":
        return max(1, min(policy.latest.num_versions, _ALL)), ()
    if choice == "specific" and not policy.specific.versions:
        raise InvalidRequest(
            f"{where}model_version_policy.specific.versions: it names no version; name one, or leave the policy out"
        )
    return 0, tuple(policy.specific.versions)
