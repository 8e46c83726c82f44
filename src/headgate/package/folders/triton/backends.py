"""The back ends that are served, and what each makes of a model's files and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headgate.errors import PackageError, UnsupportedModel, did_you_mean


class Backend(NamedTuple):
    """One back end."""

    name: str
    """As ``backend`` calls it."""
    platform: str
    """As ``platform`` calls it; empty where it has no such word."""
    file: str
    """What a version holds, unless default_model_filename says otherwise."""
    runtime: str
    """Name on the shelf ``headgate.runtimes`` of what loads it; empty: Triton's own Python models."""
    completes: bool
    """Inputs and outputs can be found out from the model."""


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("onnxruntime", "onnxruntime_onnx", "model.onnx", "onnx", True),
        Backend("pytorch", "pytorch_libtorch", "model.pt", "torch", False),
        Backend("tensorflow", "tensorflow_savedmodel", "model.savedmodel", "tensorflow", True),
        Backend("python", "", "model.py", "", True),
    )
}
OTHER_FILES = ("model.plan", "model.graphdef", "model.xml", "model.dali")
"""What versions of back ends that are not served hold: folders with them are known as Triton's, too."""

_HARMLESS = frozenset({"FORCE_CPU_ONLY_INPUT_TENSORS"})
"""Parameters that ask for what is the case anyway."""
_SIGNATURE = {"TF_SIGNATURE_DEF": "serving_default", "TF_GRAPH_TAG": "serve"}


def choose(config: Any, versions: Mapping[int, Path], where: str) -> Backend:
    """Return the back end of a model: what the configuration says, else what its newest version holds.

    Raises `UnsupportedModel` for one that is not served, and `PackageError` where nothing says which.
    """
    named = config.backend or _of_platform(config.platform)
    if named in BACKENDS:
        backend = BACKENDS[named]
        if config.platform and config.platform != backend.platform:
            raise PackageError(f"{where}platform: {config.platform!r} is not of the back end {named!r}; leave one of them out")
        return backend
    if named or config.platform:
        field, word = ("backend", config.backend) if config.backend else ("platform", config.platform)
        known = [getattr(backend, "name" if field == "backend" else "platform") for backend in BACKENDS.values()]
        served = ", ".join(filter(None, known))
        raise UnsupportedModel(f"{where}{field}: {word!r} is not served{did_you_mean(word, known) or ','} but {served} are")
    newest = versions[max(versions)]
    name = config.default_model_filename
    for backend in BACKENDS.values():
        if (not name or Path(name).suffix == Path(backend.file).suffix) and (newest / (name or backend.file)).exists():
            return backend
    there = sorted(entry.name for entry in newest.iterdir())[:5]
    raise UnsupportedModel(
        f"{where}backend: it is not set, and version {newest.name} holds {there}: what is served is "
        f"{', '.join(backend.file for backend in BACKENDS.values())}"
    )


def _of_platform(platform: str) -> str:
    return next((backend.name for backend in BACKENDS.values() if platform and backend.platform == platform), "")


def parameters(backend: Backend, config: Any, where: str, *, has_requirements: bool) -> tuple[dict[str, Any], list[str]]:
    """Return what ``parameters`` ask of the deployment, and a sentence for each that is not followed. Raises `UnsupportedModel`."""
    settings: dict[str, Any] = {}
    warnings: list[str] = []
    for key in sorted(config.parameters):
        value, path = config.parameters[key].string_value, f"{where}parameters[{key!r}]"
        if key == "EXECUTION_ENV_PATH" and not has_requirements:
            raise UnsupportedModel(f"{path}: packed environments are not unpacked; give its packages with --requirements FILE")
        if backend.name == "onnxruntime" and key == "intra_op_thread_count" and value.isdecimal():
            settings = {"resources": {"threads": int(value)}} if int(value) else {}
        elif _SIGNATURE.get(key, value) != value:
            raise UnsupportedModel(f"{path}: {value!r} cannot be chosen, only {_SIGNATURE[key]!r} is served")
        elif key == "EXECUTION_ENV_PATH":
            warnings.append(f"{path}: not unpacked; --requirements is used in its place")
        elif backend.runtime and key not in _HARMLESS and key not in _SIGNATURE:
            warnings.append(f"{path}: not followed")
    return settings, warnings
