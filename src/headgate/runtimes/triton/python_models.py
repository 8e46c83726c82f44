"""``TritonPythonModel``: the class in ``model.py`` of a repository, called as Triton calls it.

A batch is one request to it: rows of several clients, alike in their parameters, where ``max_batch_size`` allows it. A request of a
sequence is always alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import types
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Never

from headgate.errors import ModelFailed, UnsupportedModel
from headgate.runtimes.base import Arrays, InvalidInput
from headgate.runtimes.triton import pb_utils
from headgate.runtimes.triton.declared import Declared
from headgate.runtimes.triton.sequences import END, ID, START
from headgate.serving.bootstrap import CodeLoader


class PythonModel:
    """One loaded class."""

    platform = "python"
    parameters = True

    def __init__(self, entry: Mapping[str, Any], folder: Path, *, device: str) -> None:
        """Import ``model.py``, let it complete its configuration, and initialize it. Raises `UnsupportedModel`, and what it raises."""
        path = folder / entry["file"]
        kind = _class_in(_module(path, entry), path)
        self.pure = bool(getattr(kind, "idempotent", False))
        self.entry = _completed(kind, entry)
        self._names = [output["name"] for output in self.entry["output"]]
        self._version = str(entry["version"])
        self._name = entry["name"]
        self._model = kind()
        if hasattr(self._model, "initialize"):
            self._model.initialize(_arguments(self.entry, folder, device))

    def found_out(self) -> Never:
        """A Python model declares what it takes, always."""
        raise UnsupportedModel("input: it is missing; declare it in config.pbtxt, or in the model's auto_complete_config")

    def declare(
        self, inputs: tuple[Declared, ...], outputs: tuple[Declared, ...], batched: bool
    ) -> tuple[tuple[Declared, ...], tuple[Declared, ...]]:
        """Take what is declared. Raises `UnsupportedModel` where nothing is."""
        if not inputs or not outputs:
            what = "output" if inputs else "input"
            raise UnsupportedModel(f"{what}: it is missing; declare it in config.pbtxt, or in the model's auto_complete_config")
        return inputs, outputs

    def run(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Have one request executed. Raises what the model raises, and `ModelFailed` for anything but one response."""
        responses = self._model.execute([self._request(inputs, parameters)])
        if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], pb_utils.InferenceResponse):
            what = f"{len(responses)} responses" if isinstance(responses, list) else f"a {type(responses).__name__}"
            raise ModelFailed(f"execute() returned {what} for one request; return a list with an InferenceResponse for each")
        return _answered(responses[0])

    def answers(self, outputs: tuple[Declared, ...], found: Arrays) -> Arrays:
        """Return what `run` gave."""
        return found

    def parts(self, inputs: Arrays, parameters: Mapping[str, object]) -> Generator[Arrays, None, None]:
        """Have one request executed by a decoupled model, and yield its responses as they are sent. Raises as `run` does.

        Closing it tells the model that the request is cancelled, and waits until it has sent its last.
        """
        request = self._request(inputs, parameters)
        sent = request.sent
        thread = threading.Thread(target=self._execute, args=(request,), name="execute", daemon=True)
        thread.start()
        try:
            while (part := sent.get()) is not None:
                if isinstance(part, BaseException):
                    raise part
                yield _answered(part)
        finally:
            request.cancel()
            thread.join()
            request.wait_for_end()

    def close(self) -> None:
        """Call the model's ``finalize``."""
        if hasattr(self._model, "finalize"):
            self._model.finalize()

    def _execute(self, request: pb_utils.InferenceRequest) -> None:
        try:
            returned = self._model.execute([request])
            if returned is not None:
                raise ModelFailed("execute() of a decoupled model returns nothing; send what it answers by the response sender")
        except Exception as error:
            request.fail(error)

    def _request(self, inputs: Arrays, parameters: Mapping[str, object]) -> pb_utils.InferenceRequest:
        own: dict[str, Any] = dict(parameters)
        key, start, end = own.pop(ID, 0), own.pop(START, False), own.pop(END, False)
        return pb_utils.InferenceRequest(
            model_name=self._name,
            requested_output_names=self._names,
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            model_version=int(self._version),
            parameters=own,
            correlation_id=key,
            flags=start * pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START | end * pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
        )


def _answered(response: pb_utils.InferenceResponse) -> Arrays:
    """Return the outputs of a response. Raises its error: as the caller's fault where the model says INVALID_ARG."""
    error = response.error()
    if error is not None:
        if error.code() == pb_utils.TritonError.INVALID_ARG:
            raise InvalidInput(error.message())
        raise pb_utils.TritonModelException(error.message())
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def _module(path: Path, entry: Mapping[str, Any]) -> types.ModuleType:
    """Import the model's file; modules beside it can be imported both by their names and relatively, as under Triton."""
    sys.modules.setdefault("triton_python_backend_utils", pb_utils)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    name = f"headgate_triton_{entry['name']}_{entry['version']}"
    spec = importlib.util.spec_from_file_location(
        name, path, loader=CodeLoader(name, str(path)), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _class_in(module: types.ModuleType, path: Path) -> Any:
    kind = getattr(module, "TritonPythonModel", None)
    if not isinstance(kind, type):
        raise UnsupportedModel(f"{path.name} has no class TritonPythonModel, which the Python back end looks for")
    if not callable(getattr(kind, "execute", None)):
        raise UnsupportedModel(f"{path.name}: TritonPythonModel has no method execute(self, requests)")
    return kind


def _completed(kind: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry with what the class says in ``auto_complete_config``, if it has one."""
    entry = dict(entry)
    if entry["max_batch_size"] is None:
        entry["max_batch_size"] = 0
    if not hasattr(kind, "auto_complete_config"):
        return entry
    found = kind.auto_complete_config(pb_utils.ModelConfig(entry["config"]))
    if not isinstance(found, pb_utils.ModelConfig):
        raise UnsupportedModel(f"auto_complete_config() returned a {type(found).__name__}; return the configuration it was given")
    config = found.as_dict()
    policy = config.get("model_transaction_policy") or {}
    own = {key: {fields["name"]: fields for fields in entry[key]} for key in ("input", "output")}
    tensors = {key: [own[key].get(fields["name"]) or _tensor(fields) for fields in config[key]] for key in ("input", "output")}
    return {
        **entry,
        **tensors,
        "config": config,
        "max_batch_size": config.get("max_batch_size", 0),
        "decoupled": bool(policy.get("decoupled", False)),
    }


def _tensor(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of an input or output, as an entry does."""
    dtype = str(fields["data_type"]).removeprefix("TYPE_")
    said = {"name": fields["name"], "dtype": "BYTES" if dtype == "STRING" else dtype, "dims": list(fields["dims"])}
    return said | ({"optional": True} if fields.get("optional") else {})


def _arguments(entry: Mapping[str, Any], folder: Path, device: str) -> dict[str, str]:
    """Return what ``initialize`` gets: text, all of it."""
    kind, _, number = device.partition(":")
    return {
        "model_config": json.dumps(entry["config"]),
        "model_instance_kind": "GPU" if kind == "cuda" else "CPU",
        "model_instance_device_id": number or "0",
        "model_instance_name": f"{entry['name']}_0",
        "model_repository": str(folder),
        "model_version": str(entry["version"]),
        "model_name": entry["name"],
    }
