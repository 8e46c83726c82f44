"""What a deployment is asked to be: the settings it has, with those that were given laid over."""

from __future__ import annotations

from typing import Any

from headgate.cli.api import Api, segment
from headgate.errors import NotFound


def apply(api: Api, name: str, model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Deploy ``model`` as ``name`` and return the status. Settings that are not given stay as they are, so that a new version does
    not silently lose the replicas of the old one.
    """
    path = f"/deployments/{segment(name)}"
    try:
        kept = api.get(path)["spec"]
    except NotFound:
        kept = {}
    status: dict[str, Any] = api.call("PUT", path, {**overlay(kept, given), "name": name, "model": model})[1]
    return status


def overlay(kept: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return ``kept`` with every leaf of ``given`` in its place."""
    both = kept.keys() & given.keys()
    nested = {key: overlay(kept[key], given[key]) for key in both if isinstance(kept[key], dict) and isinstance(given[key], dict)}
    return {**kept, **given, **nested}
