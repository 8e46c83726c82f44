"""Every key of a Truss's config.yaml: its default, and what becomes of it here.

Source: truss 0.18 (base/truss_config.py, config.schema.json). A key is honoured, or only describes the model; or it is refused when it is
set, in the sentence that stands here, for without it the model would not run as it does elsewhere; or it is named in a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headgate.errors import UnsupportedModel
from headgate.package.folders.base import unknown_key

DEFAULTS: dict[str, Any] = {
    "apply_library_patches": True,
    "base_image": None,
    "bdn": {},
    "bis_llm": None,
    "build": {},
    "build_commands": [],
    "bundled_packages_dir": "packages",
    "cache_internal": [],
    "data_dir": "data",
    "description": None,
    "docker_server": None,
    "environment_variables": {},
    "examples_filename": "examples.yaml",
    "external_data": None,
    "external_package_dirs": [],
    "hf_cache": [],
    "input_type": "Any",
    "live_reload": False,
    "model_cache": [],
    "model_class_filename": "model.py",
    "model_class_name": "Model",
    "model_framework": "custom",
    "model_metadata": {},
    "model_module_dir": "model",
    "model_name": None,
    "model_type": "Model",
    "python_version": None,
    "requirements": [],
    "requirements_file": None,
    "resources": {},
    "runtime": {},
    "secrets": {},
    "spec_version": "2.0",
    "system_packages": [],
    "training_checkpoints": None,
    "trt_llm": None,
    "use_local_src": False,
    "weights": [],
}
"""The keys at the top."""

NESTED: dict[str, dict[str, Any]] = {
    "build": {"arguments": {}, "model_server": "TrussServer", "no_cache": False, "secret_to_path_mapping": {}},
    "resources": {
        "accelerator": None,
        "cpu": "1",
        "fabric": None,
        "instance_type": None,
        "memory": "2Gi",
        "node_count": None,
        "use_gpu": False,
    },
    "runtime": {
        "enable_debug_logs": False,
        "enable_tracing_data": False,
        "egress_restrictions": None,
        "health_checks": {},
        "is_websocket_endpoint": None,
        "oidc": {},
        "predict_concurrency": 1,
        "remote_ssh": {},
        "streaming_read_timeout": 60,
        "transport": {},
        "truss_server_version_override": None,
    },
    "runtime.transport": {"kind": "http", "ping_interval_seconds": None, "ping_timeout_seconds": None},
}
"""The keys of groups whose parts are told apart here; what is in other groups is Baseten's own matter."""

_DOWNLOADS = "is downloaded by Baseten's builder, not here: put the files into the folder's data"
_IMAGE = "belongs to a container image, and no image is built here"
_ENGINE = "is an engine that Baseten builds, and it is not open"
_PLATFORM = "is a part of Baseten's platform, which is not here"
_REFUSED = {
    "base_image": f"{_IMAGE}: install what it has on this machine, name Python packages in requirements, and leave it out",
    "bdn": _PLATFORM,
    "bis_llm": _ENGINE,
    "build.arguments": f"{_IMAGE}: leave it out",
    "build.model_server": "only TrussServer, a class in Python, is served here",
    "build.secret_to_path_mapping": f"{_IMAGE}: leave it out",
    "build_commands": f"{_IMAGE}: run the commands yourself, and leave it out",
    "cache_internal": _DOWNLOADS,
    "docker_server": "a container's own server is not started here: only a class with predict is served",
    "external_data": _DOWNLOADS,
    "hf_cache": _DOWNLOADS,
    "model_cache": _DOWNLOADS,
    "runtime.egress_restrictions": f"{_PLATFORM}: restrict the server's own process instead",
    "runtime.is_websocket_endpoint": "websockets are not offered: only a class with predict is served",
    "runtime.oidc": _PLATFORM,
    "runtime.transport.kind": "only http is served here: gRPC and websocket servers of a model's own are not started",
    "system_packages": "are packages of the operating system, which Headgate does not install: install them, and leave it out",
    "training_checkpoints": _PLATFORM,
    "trt_llm": _ENGINE,
    "weights": _DOWNLOADS,
}
_UNHEEDED = {
    "apply_library_patches": "no library is patched here",
    "live_reload": "code changes are deployed as a new version",
    "resources.accelerator": "the model sees the devices of this machine",
    "resources.cpu": "--threads says how many threads a replica computes with",
    "resources.fabric": "the model runs on this machine alone",
    "resources.instance_type": "the model runs on this machine",
    "resources.memory": "--memory says at which size a replica is replaced",
    "resources.node_count": "the model runs on this machine alone",
    "resources.use_gpu": "the model sees the devices of this machine",
    "runtime.enable_debug_logs": "the model's log is 'headgate logs'",
    "runtime.enable_tracing_data": "nothing is traced here",
    "runtime.health_checks": "replicas are watched and replaced by Headgate's own rules",
    "runtime.remote_ssh": "the model runs on this machine",
    "runtime.streaming_read_timeout": "--timeout and --batch-timeout bound a request",
    "runtime.truss_server_version_override": "Headgate serves it, not a version of Truss",
    "runtime.transport.ping_interval_seconds": "there is no websocket",
    "runtime.transport.ping_timeout_seconds": "there is no websocket",
    "use_local_src": "Headgate serves it, not a version of Truss",
}


def check(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a warning for each key that is set and makes no difference here.

    Raises `UnsupportedModel` for one without which the model would not be what it is, and `PackageError` for one that nobody knows.
    """
    said = []
    for path, value, default in _set(config):
        if path in _REFUSED:
            raise UnsupportedModel(f"config.yaml: {path}: {_REFUSED[path]}")
        if path in _UNHEEDED:
            said.append(f"config.yaml: {path} ({value if value != default else 'set'}) is not honoured: {_UNHEEDED[path]}")
    return tuple(said)


def _set(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, value and default of each key that has another value than its default. Raises `PackageError` for unknown ones."""
    groups: list[tuple[str, Any, dict[str, Any]]] = [("", config, DEFAULTS)]
    while groups:
        prefix, group, known = groups.pop(0)
        for key, value in (group or {}).items():
            path = f"{prefix}{key}"
            if key not in known:
                raise unknown_key(f"config.yaml: {prefix}", str(key), known)
            if path in NESTED:
                groups.append((f"{path}.", value, NESTED[path]))
            elif not _is_default(value, known[key]):
                yield path, value, known[key]


def _is_default(value: Any, default: Any) -> bool:
    """Whether a value says what its absence would: groups whose every part is empty, or off, say nothing."""
    if isinstance(value, dict) and isinstance(default, dict | None):
        return all(_is_default(part, None) for part in value.values())
    return value == default or (value in (None, "", [], False) and not default)
