"""``sequence_batching``: what a model that keeps state from request to request wants to know, and what it asks of the deployment.

``sequence`` of the entry has the keys:

    controls    [{name, kind, dtype, values}]                 inputs that no client sends; kind: start, end, ready, id
    states      [{input, output, dtype, dims, first}]         an output that is the next request's input; first: as in ``warmup``
    slots       the most sequences one replica may be in the midst of; null: any number
"""

from __future__ import annotations

from typing import Any

from headgate.errors import PackageError, UnsupportedModel
from headgate.package.folders.triton.backends import Backend
from headgate.package.folders.triton.entry import dims_of, dtype_of, file_in

IDLE_MICROSECONDS = 1_000_000
"""Triton's own limit, where none is said."""
_KINDS = {0: "start", 1: "ready", 2: "end", 3: "id"}
_TRUTHS = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}
_IDS = ("UINT64", "INT64", "UINT32", "INT32", "BYTES")


def sequence_of(config: Any, backend: Backend, where: str) -> dict[str, Any] | None:
    """Return what the entry says of sequences; None where there are none.

    Raises `PackageError` naming the field for what makes no sense, and `UnsupportedModel` for state that nobody keeps.
    """
    if not config.HasField("sequence_batching"):
        return None
    batching, where = config.sequence_batching, f"{where}sequence_batching."
    if batching.state and not backend.runtime:
        raise UnsupportedModel(
            f"{where}state: Triton keeps none for Python models; keep it in the model, by request.correlation_id()"
        )
    taken = {tensor.name for tensor in config.input}
    return {
        "controls": _controls(batching.control_input, f"{where}control_input", taken),
        "states": _states(batching.state, f"{where}state", taken),
        "slots": _slots(config, backend),
    }


def sequence_settings(config: Any, backend: Backend, replicas: int, where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the (partial) fields of the deployment's spec, and a sentence for what is not as under Triton. Raises `PackageError`."""
    if not config.HasField("sequence_batching"):
        return {}, []
    batching = config.sequence_batching
    candidates = batching.oldest.max_candidate_sequences
    if candidates < 0:
        raise PackageError(f"{where}sequence_batching.oldest.max_candidate_sequences: expected 0 or more, got {candidates}")
    fields: dict[str, Any] = {"idle": (batching.max_sequence_idle_microseconds or IDLE_MICROSECONDS) / 1e6}
    if most := candidates or _slots(config, backend) or (max(1, config.max_batch_size) if _keeps_state(config, backend) else 0):
        fields["max_open"] = most * replicas
    warnings = []
    if backend.runtime and config.max_batch_size > 1 and _slots(config, backend):
        warnings.append(
            f"{where}sequence_batching.direct: the model keeps the state of each batch slot itself, and here it has one slot, so each "
            "replica serves one sequence at a time"
        )
    return {"sequences": fields}, warnings


def _keeps_state(config: Any, backend: Backend) -> bool:
    """Whether the model itself may remember something: an ONNX graph cannot, and where state is declared it is kept beside it."""
    return not backend.runtime or (backend.runtime != "onnx" and not config.sequence_batching.state)


def _slots(config: Any, backend: Backend) -> int | None:
    """Return how many sequences one replica may be in the midst of without mixing what the model remembers of them.

    With the strategy 'direct' it may go by the slot of a batch alone, and Triton never gives it more sequences than it has slots. A
    Python model is told which sequence is meant; a graph sees nothing but the first slot here.
    """
    if not _keeps_state(config, backend) or config.sequence_batching.HasField("oldest"):
        return None
    return 1 if backend.runtime else max(1, config.max_batch_size)


def _controls(declared: Any, where: str, taken: set[str]) -> list[dict[str, Any]]:
    controls: list[dict[str, Any]] = []
    for index, given in enumerate(declared):
        path = f"{where}[{index}]."
        _take(given.name, taken, f"{path}name")
        if len(given.control) != 1:
            raise PackageError(f"{path}control: expected one, since an input has one value, got {len(given.control)}")
        kind = _KINDS.get(given.control[0].kind)
        if kind is None or kind in [control["kind"] for control in controls]:
            raise PackageError(f"{path}control.kind: expected each of START, READY, END and CORRID at most once; correct it")
        values = _id(given.control[0], path) if kind == "id" else _truth(given.control[0], path)
        controls.append({"name": given.name, "kind": kind, **values})
    return controls


def _id(control: Any, path: str) -> dict[str, Any]:
    dtype = dtype_of(control, f"{path}control.")
    if dtype not in _IDS:
        raise PackageError(f"{path}control.data_type: expected TYPE_UINT64, INT64, UINT32, INT32 or STRING, got TYPE_{dtype}")
    return {"dtype": dtype, "values": []}


def _truth(control: Any, path: str) -> dict[str, Any]:
    found = [name for name in _TRUTHS if len(getattr(control, name))]
    if len(found) != 1:
        raise PackageError(f"{path}control: expected one of {', '.join(_TRUTHS)}, got {' and '.join(found) or 'none'}")
    values = list(getattr(control, found[0]))
    if len(values) != 2:
        raise PackageError(f"{path}control.{found[0]}: expected what says no and what says yes, got {values}")
    return {"dtype": _TRUTHS[found[0]], "values": values}


def _states(declared: Any, where: str, taken: set[str]) -> list[dict[str, Any]]:
    states: list[dict[str, Any]] = []
    outputs: set[str] = set()
    for index, state in enumerate(declared):
        path = f"{where}[{index}]."
        _take(state.input_name, taken, f"{path}input_name")
        _take(state.output_name, outputs, f"{path}output_name")
        dtype, dims = dtype_of(state, path), dims_of(state.dims, f"{path}dims")
        first = _first(state.initial_state, dtype, dims, f"{path}initial_state")
        states.append({"input": state.input_name, "output": state.output_name, "dtype": dtype, "dims": dims, "first": first})
    return states


def _first(given: Any, dtype: str, dims: list[int], path: str) -> dict[str, Any]:
    """Return what a sequence starts with. Triton leaves what nobody says as it lies in memory; here it is zeros."""
    if not given:
        return {"dims": [1 if size < 0 else size for size in dims], "fill": "zero"}
    if len(given) > 1:
        raise PackageError(f"{path}: expected one, got {len(given)}")
    initial = given[0]
    if not initial.name:
        raise PackageError(f"{path}.name: it is missing; give it any name")
    if dtype_of(initial, f"{path}.") != dtype:
        raise PackageError(f"{path}.data_type: it must be that of the state, {dtype}")
    found = dims_of(initial.dims, f"{path}.dims")
    if -1 in found or len(found) != len(dims) or any(want not in (-1, size) for want, size in zip(dims, found, strict=True)):
        raise PackageError(f"{path}.dims: expected sizes that fit the state's dims {dims}, got {found}")
    choice = initial.WhichOneof("state_data")
    if choice is None:
        raise PackageError(f"{path}.zero_data: say what the data is: zero_data: true, or data_file")
    if choice == "zero_data":
        return {"dims": found, "fill": "zero"}
    return {"dims": found, "file": file_in("initial_state", initial.data_file, f"{path}.data_file")}


def _take(name: str, taken: set[str], path: str) -> None:
    if not name or name in taken:
        raise PackageError(f"{path}: {name!r} is {'declared twice' if name else 'no name'}; correct it")
    taken.add(name)
