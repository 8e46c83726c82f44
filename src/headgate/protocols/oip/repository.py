"""Triton's model repository extension: what is served and how it is, and loading and unloading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.errors import InvalidRequest, Unsupported
from headgate.journal import WishKind
from headgate.protocols.base import Catalogue, DeploymentView, Later, Reply
from headgate.spec import check_name

_NOTHING_SERVES = "no revision of it serves yet"


def index(catalogue: Catalogue, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return every version that can be asked for; with ``ready``, only those that would compute a request now."""
    check_repository(asked)
    only_ready = asked.get("ready", False)
    if type(only_ready) is not bool:
        raise InvalidRequest(f"Invalid value for 'ready': expected a boolean, got {str(only_ready)[:50]!r}")
    entries = [entry for deployment in catalogue.deployments() for entry in _entries(deployment)]
    entries += [{"name": name} for name in catalogue.loadable]
    return {"models": [entry for entry in entries if entry.get("state") == "READY" or not only_ready]}


def _entries(deployment: DeploymentView) -> list[dict[str, str]]:
    states = deployment.states()
    if not states:
        return [{"name": deployment.name, "state": "UNAVAILABLE", "reason": _NOTHING_SERVES}]
    return [
        {
            "name": deployment.name,
            "version": str(state.version),
            "state": "READY" if state.ready else "UNAVAILABLE",
            "reason": state.reason,
        }
        for state in states
    ]


def load(catalogue: Catalogue, asked: Mapping[str, Any], reply: Reply) -> Later:
    """Deploy the newest version of a registered model. Raises `NotReady` where clients may not, `InvalidRequest`, `Unsupported`."""
    check_repository(asked)
    catalogue.check_administration()
    for key in asked.get("parameters") or ():
        if key.startswith("file:"):
            raise InvalidRequest(
                f"parameter '{key[:100]}': files are never taken from a load request; push the model with 'headgate push', then load it"
            )
        if key == "config":
            raise Unsupported("parameter 'config': this server takes no configuration here; set it with 'headgate deploy'")
        raise InvalidRequest(f"parameter '{key[:100]}': a load request has no such parameter; leave it out")
    return catalogue.wish(WishKind.LOAD, _model(asked), reply)


def unload(catalogue: Catalogue, asked: Mapping[str, Any], reply: Reply) -> Later:
    """End a deployment. Raises `NotReady` where clients may not, `InvalidRequest`, `Unsupported`."""
    check_repository(asked)
    catalogue.check_administration()
    for key, value in (asked.get("parameters") or {}).items():
        if key != "unload_dependents":
            raise InvalidRequest(f"parameter '{key[:100]}': an unload request has no such parameter; leave it out")
        if type(value) is not bool:
            raise InvalidRequest(f"parameter 'unload_dependents': expected true or false, got {str(value)[:50]!r}")
        if value:
            raise Unsupported("parameter 'unload_dependents': unload each model by its own name")
    return catalogue.wish(WishKind.UNLOAD, _model(asked), reply)


def _model(asked: Mapping[str, Any]) -> str:
    name = asked.get("model_name")
    if not name:
        raise InvalidRequest("model_name: it is missing; say which model is meant")
    return check_name(str(name), "model_name")


def check_repository(asked: Mapping[str, Any]) -> None:
    """Refuse a repository by name: there is one. Raises `Unsupported`."""
    if asked.get("repository_name"):
        raise Unsupported("'repository_name' specification is not supported; there is one repository, leave the name out")
