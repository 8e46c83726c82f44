"""What the replica's side is told of a model: JSON beside its files, which is the entry of its package.

Only what changes answers is in it, so that a changed number of replicas makes no other version. The keys:

    name, version, backend, runtime, file      who it is, what loads it, and the path of the model from here
    max_batch_size                             null: nothing is declared, all of it is found out from the model
    input, output                              [{name, dtype, dims, reshape?, optional?, labels?}], in the order of config.pbtxt
    decoupled                                  it answers each request any number of times
    sequence                                   as `headgate.package.folders.triton.sequences` says; absent where it keeps no state
    warmup                                     [{name, rows, count, inputs: {name: {dtype, dims, fill | file}}}]; fill: zero, random
    config                                     what a Python model's initialize() gets
    steps                                      of an ensemble, in an order that works: [{field, model, entry, input_map, output_map}];
                                               ``entry`` is the path from here to that of the step's model
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from headgate.errors import PackageError, UnsupportedModel
from headgate.package.folders.triton.backends import Backend
from headgate.package.folders.triton.fields import plain

_NOT_FOR_MODELS = ("version_policy", "instance_group", "dynamic_batching", "optimization", "model_warmup", "response_cache")


def entry(config: Any, backend: Backend, number: int, file: str, where: str, sequence: dict[str, Any] | None = None) -> bytes:
    """Return the JSON of version ``number``. Raises `PackageError` naming the field for what makes no sense."""
    if config.max_batch_size < 0:
        raise PackageError(f"{where}max_batch_size: expected 0 or more, got {config.max_batch_size}")
    declared = bool(config.input or config.output or config.max_batch_size or sequence)
    if not backend.completes and not (config.input and config.output):
        raise PackageError(
            f"{where}{'output' if config.input else 'input'}: it is missing, and {backend.file} does not say it; declare it"
        )
    fields: dict[str, Any] = {
        "name": config.name,
        "version": number,
        "backend": backend.name,
        "runtime": backend.runtime,
        "file": file,
        "max_batch_size": config.max_batch_size if declared else None,
        "input": _tensors(config.input, f"{where}input"),
        "output": _tensors(config.output, f"{where}output"),
        "decoupled": config.model_transaction_policy.decoupled,
        "warmup": [_warm_up(sample, config, f"{where}model_warmup") for sample in config.model_warmup],
    }
    if sequence is not None:
        fields["sequence"] = sequence
    if not backend.runtime:
        fields["config"] = {key: value for key, value in plain(config).items() if key not in _NOT_FOR_MODELS}
    return json.dumps(fields, indent=1, sort_keys=True).encode()


def _tensors(declared: Any, where: str) -> list[dict[str, Any]]:
    tensors: list[dict[str, Any]] = []
    for index, tensor in enumerate(declared):
        path = f"{where}[{index}]."
        if not tensor.name or tensor.name in [other["name"] for other in tensors]:
            raise PackageError(f"{path}name: {tensor.name!r} is {'there twice' if tensor.name else 'no name'}; correct it")
        fields = {"name": tensor.name, "dtype": dtype_of(tensor, path), "dims": dims_of(tensor.dims, f"{path}dims", at_least=1)}
        if tensor.HasField("reshape"):
            fields["reshape"] = _reshaped(tensor, path)
        if getattr(tensor, "optional", False):
            fields["optional"] = True
        if getattr(tensor, "label_filename", ""):
            fields["labels"] = tensor.label_filename
        tensors.append(fields)
    return tensors


def dtype_of(tensor: Any, path: str) -> str:
    """Return the name that requests use. Raises `PackageError` where none is given."""
    known = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    name = known[tensor.data_type].name if tensor.data_type in known else "TYPE_INVALID"
    if name == "TYPE_INVALID":
        raise PackageError(f"{path}data_type: it is missing, or a number that is no type; set it, such as TYPE_FP32")
    return "BYTES" if name == "TYPE_STRING" else name.removeprefix("TYPE_")


def dims_of(dims: Any, path: str, *, at_least: int = 0) -> list[int]:
    """Return a shape, -1 where it varies. Raises `PackageError` where it is none, or has less than ``at_least`` dimensions."""
    found = list(dims)
    wrong = [size for size in found if size < -1 or size == 0]
    if wrong:
        raise PackageError(f"{path}: expected sizes of 1 or more, or -1 for one that varies, got {found}")
    if len(found) < at_least:
        raise PackageError(f"{path}: it is missing; a scalar is dims: [ 1 ] with reshape: {{ shape: [ ] }}")
    return found


def _reshaped(tensor: Any, path: str) -> list[int]:
    shape = dims_of(tensor.reshape.shape, f"{path}reshape.shape")
    if shape.count(-1) != list(tensor.dims).count(-1):
        raise PackageError(f"{path}reshape.shape: {shape} must have as many sizes that vary (-1) as dims {list(tensor.dims)}")
    if -1 not in shape and _elements(shape) != _elements(tensor.dims):
        raise PackageError(f"{path}reshape.shape: {shape} has not as many elements as dims {list(tensor.dims)}")
    return shape


def _elements(dims: Any) -> int:
    product = 1
    for size in dims:
        product *= size
    return product


def _warm_up(sample: Any, config: Any, where: str) -> dict[str, Any]:
    path = f"{where}[{sample.name!r}]."
    if sample.batch_size > config.max_batch_size > 0 or (sample.batch_size > 1 and not config.max_batch_size):
        raise PackageError(f"{path}batch_size: {sample.batch_size} is above max_batch_size, {config.max_batch_size}; lower it")
    if not config.max_batch_size and not config.input:
        raise UnsupportedModel(
            f"{path}inputs: they mean something only where input is declared; declare it, or leave the warm-up out"
        )
    return {
        "name": sample.name,
        "rows": max(1, sample.batch_size),
        "count": max(1, sample.count),
        "inputs": {name: _warm_up_input(sample.inputs[name], f"{path}inputs[{name!r}].") for name in sorted(sample.inputs)},
    }


def _warm_up_input(given: Any, path: str) -> dict[str, Any]:
    dims = dims_of(given.dims, f"{path}dims")
    if -1 in dims:
        raise PackageError(f"{path}dims: {dims} vary, and warm-up data has one size; say which")
    choice = given.WhichOneof("input_data_type")
    if choice is None:
        raise PackageError(f"{path}zero_data: say what the data is: zero_data: true, random_data: true, or input_data_file")
    fields = {"dtype": dtype_of(given, path), "dims": dims}
    if choice == "input_data_file":
        return fields | {"file": file_in("warmup", given.input_data_file, f"{path}input_data_file")}
    return fields | {"fill": choice.removesuffix("_data")}


def file_in(folder: str, source: str, path: str) -> str:
    """Return where a file in one of the model's folders lies from the entry. Raises `PackageError` for one that lies elsewhere."""
    if not source or {"..", "."} & set(PurePosixPath(source).parts) or source.startswith("/"):
        raise PackageError(f"{path}: expected a file in the model's folder '{folder}', got {source!r}")
    return f"{folder}/{source}"
