"""Triton's trace and logging extensions: what is set is told; this server traces nothing, and its log is not set over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.errors import Unsupported
from headgate.protocols.base import Catalogue

_TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
_LOG = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def trace_settings(catalogue: Catalogue, asked: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of traces: they are off. Raises `Unsupported` where they should be changed, `UnknownModel`."""
    if asked.get("model_name"):
        catalogue.deployment(asked["model_name"])
    if changes:
        raise Unsupported(f"{_named(changes)}: this server does not support trace, so nothing was set; trace_level is OFF")
    return dict(_TRACE)


def log_settings(catalogue: Catalogue, asked: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the log. Raises `Unsupported` where they should be changed."""
    if changes:
        raise Unsupported(
            f"{_named(changes)}: this server does not support dynamic logging, so nothing was set; what is logged is said by the flags "
            "of 'headgate serve' (--access-log)"
        )
    return dict(_LOG)


def _named(changes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, changes)))[:200]
