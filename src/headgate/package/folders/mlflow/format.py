"""MLflow model folders: ``MLmodel``, what its flavours point to, its signature, its input example, its requirements.

Source: mlflow 3.17 (models/model.py, models/signature.py, models/utils.py, pyfunc/__init__.py). Most flavours run by MLflow's own loader
(`headgate.runtimes.mlflow`). Where a flavour's file is one that a runtime of ours reads, and the signature says that the answers are the
same (`native`), that runtime is used: it batches better, and starts without MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate import plugins
from headgate.errors import PackageError, UnsupportedModel, UntrustedPickle
from headgate.package.detect import SHELF, default_name
from headgate.package.folder import regular_files
from headgate.package.folders.base import Asked, Fetched, Folder, ModelSource, Say, VersionSource, read_yaml
from headgate.package.folders.mlflow import environment, examples, tracking
from headgate.package.folders.mlflow.native import Ready, native
from headgate.package.folders.mlflow.schema import read_schema

MODEL = "model"
"""The folder's name in the package: wherever it came from, the same content is the same package."""
_LOADER = "mlflow"
_PYFUNC = "python_function"

_KNOWN = frozenset(
    "artifact_path databricks_runtime flavors is_signature_from_type_hint metadata mlflow_version model_id model_size_bytes model_uuid "
    "prompts run_id saved_input_example_info signature type_hint_from_example utc_time_created".split()
)
"""Keys of MLmodel that are honoured, or that only say where the model comes from."""
_UNHEEDED = {
    "auth_policy": "Databricks grants these; give the server's own environment the access the model needs",
    "env_vars": "set these variables in the environment of 'headgate serve' if the model needs them",
    "resources": "Databricks grants these; give the server's own environment the access the model needs",
}


class MlflowFolder(Folder):
    """A folder with an ``MLmodel`` file, or ``models:/name@alias``, ``models:/name/3``, ``runs:/id/path`` of a tracking server."""

    title = "MLflow (MLmodel)"
    schemes = frozenset({"models", "runs"})

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is a folder with an ``MLmodel``."""
        return (path / "MLmodel").is_file()

    @classmethod
    def fetch(cls, address: str, into: Path, say: Say) -> Fetched:
        """Download the model from the server that ``MLFLOW_TRACKING_URI`` names."""
        return tracking.fetch(address, into)

    @classmethod
    def adapt(cls, path: Path, asked: Asked) -> tuple[ModelSource, ...]:
        """Return the one model in the folder."""
        document = read_yaml(path / "MLmodel")
        flavors = _flavors(document)
        schema = read_schema(document)
        own = None if asked.requirements else environment.read(path, flavors.get(_PYFUNC, {}))
        fields: dict[str, Any] = {
            "title": path.name if asked.name == "" else asked.name,
            "origin": "mlflow",
            "requirements": own.requirements if own else None,
            "python": own.python if own else None,
            "example": examples.read(path, document, schema),
        }
        ready = native(path, flavors, schema) or _loaded(path, flavors)
        hidden = _hidden(ready, path)
        if hidden and not asked.trust_pickle:
            raise UntrustedPickle(
                f"{fields['title']}: {hidden}, and loading it can run any code that somebody has put into it; nothing was loaded. If you "
                "trust where it comes from: --trust-pickle"
            )
        source = VersionSource(**ready, **fields, runs_code=bool(hidden))
        model = ModelSource(name=asked.name or default_name(path), versions=(source,), warnings=_warnings(document, flavors, own))
        return (model,)


def _flavors(document: Mapping[str, Any]) -> dict[str, Any]:
    flavors = document.get("flavors")
    if not isinstance(flavors, dict) or not all(isinstance(value, dict) for value in flavors.values()):
        raise PackageError("MLmodel: flavors: expected the model's flavours, each with its fields; log the model again")
    return flavors


def _loaded(path: Path, flavors: Mapping[str, Any]) -> Ready:
    """Return the source of a model that MLflow's own loader runs."""
    if _PYFUNC not in flavors:
        raise UnsupportedModel(
            f"MLmodel: flavors: has {', '.join(flavors) or 'none'}, and neither {_PYFUNC} nor one that is read here; log the model with a "
            "flavour that has python_function"
        )
    files = {f"{MODEL}/{name}": file for name, file in regular_files(path).items() if "__pycache__" not in name.split("/")}
    return {"runtime": _LOADER, "entry": MODEL, "files": files}


def _hidden(ready: Ready, path: Path) -> str:
    """Say what in the model runs code that is hidden in a data file; empty where nothing does."""
    runtime = plugins.load(SHELF, ready["runtime"])
    if ready["runtime"] == _LOADER:
        return str(runtime.why_trust(path))
    file = ready["files"][ready["entry"]]
    return f"{file.name} holds a pickle" if runtime.runs_code(file) else ""


def _warnings(document: Mapping[str, Any], flavors: Mapping[str, Any], own: environment.Requirements | None) -> tuple[str, ...]:
    """Name what is in the folder and makes no difference here."""
    said = [
        f"MLmodel: {key} is not honoured: {_UNHEEDED.get(key, 'nobody here knows it')}" for key in document if key not in _KNOWN
    ]
    if flavors.get(_PYFUNC, {}).get("streamable"):
        said.append("MLmodel: flavors.python_function.streamable is not honoured: streaming answers are not offered yet")
    return (*said, *(own.warnings if own else ()))
