"""PyTorch models: programs of torch.export, and TorchScript."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, NeedsExample, Runtime, TensorSpec, named
from headgate.tensors import BY_NUMPY, dtype_of

_DTYPES = BY_NUMPY | {"bfloat16": "BF16"}
_EXPORT = 'torch.export.save(torch.export.export(model.eval(), args, dynamic_shapes=...), "model.pt2")'


class TorchRuntime(Runtime):
    """An exported program (``.pt2``), TorchScript (``.pt``, ``.pth``), or, for those who trust it, a pickled module.

    Inputs are the arguments of ``forward``. Outputs: the keys of a dict or fields of a named tuple; ``output_0``, ``output_1`` for a
    tuple; ``output`` for a tensor.
    """

    title = "PyTorch"
    platform = "pytorch_export"
    suffixes = frozenset({".pt2", ".pt", ".pth"})
    pickled = frozenset({".pt", ".pth"})
    safer = f"Export it, which needs no pickle: {_EXPORT}."
    requires = ("torch",)
    extra = "torch"

    @classmethod
    def runs_code(cls, path: Path) -> bool:
        """Whether ``path`` is a pickle, or an archive that holds pickled objects or compiled libraries."""
        members = _members(path)
        if path.suffix.lower() == ".pt2":
            return any("/opaque_obj_" in member or "/aotinductor/" in member for member in members)
        return not _is_script(members)

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the program. Raises `UnsupportedModel` if PyTorch does not take the file, or it holds weights without a model."""
        torch = self.framework("torch")
        torch.set_num_threads(threads)
        with contextlib.suppress(RuntimeError):  # settable once in a process
            torch.set_num_interop_threads(1)
        # We never write to an input that is read-only, and say so to nobody twice.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._torch, self._device = torch, device
        self._program: Any = None
        self._copies = True
        try:
            if path.suffix.lower() == ".pt2":
                self._load_program(path)
            else:
                self._load_module(path)
        except (UnsupportedModel, ModuleNotFoundError):
            raise
        except Exception as error:
            raise self.unreadable(path, error) from error

    def describe(self, example: Arrays | None) -> Described:
        """Read an exported program; take the inputs of everything else from ``example``. Raises `NeedsExample` without one."""
        return self._describe_module(example) if self._program is None else self._describe_program()

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run the model without gradients."""
        torch = self._torch
        with torch.inference_mode():
            tensors = {name: self._tensor(name, inputs[name]) for name in self._names if name in inputs}
            result = self._in_chunks(tensors) if self._most is not None else self._call(tensors)
        return {name: _array(tensor) for name, tensor in _outputs(result, torch.Tensor)}

    def _load_program(self, path: Path) -> None:
        with _refusing_pickles():
            program = self._torch.export.load(str(path))
        if self._device != "cpu":
            passes = self.framework("torch.export.passes")
            program = passes.move_to_device_pass(program, self._device)
        self._program = program
        self._module = program.module()
        self._slots = _slots(program, path.name)
        self._names = [name for name, constant in self._slots if name]
        self._copies = bool(program.graph_signature.user_inputs_to_mutate)
        self._most = self._most_rows()
        nodes = self._placeholders()
        self._halves = frozenset(name for name in self._names if nodes[name].dtype == self._torch.bfloat16)

    def _load_module(self, path: Path) -> None:
        torch = self._torch
        script = _is_script(_members(path))
        module = torch.jit.load(str(path), map_location=self._device) if script else self._unpickled(path)
        self._module = module.eval()
        self._most = None
        self._script = script
        self._names = [name for name, _ in self._arguments()]
        self._floats = next((p.dtype for p in self._module.parameters() if p.dtype.is_floating_point), torch.float32)
        self._halves = frozenset(self._names) if self._floats == torch.bfloat16 else frozenset()

    def _unpickled(self, path: Path) -> Any:
        module = self._torch.load(str(path), map_location=self._device, weights_only=False)
        if not isinstance(module, self._torch.nn.Module):
            what = "weights (a state_dict) without their model" if isinstance(module, Mapping) else f"a {type(module).__name__}"
            raise UnsupportedModel(f"{path.name} holds {what}. Load them into the model and export it: {_EXPORT}")
        return module

    def _arguments(self) -> Iterator[tuple[str, bool]]:
        """Yield name and whether it may be left out, of each tensor argument of a module."""
        if not self._script:
            for parameter in inspect.signature(self._module.forward).parameters.values():
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    yield parameter.name, parameter.default is not parameter.empty
            return
        for argument in self._module.forward.schema.arguments[1:]:
            if "Tensor" in str(argument.type):
                yield argument.name, argument.has_default_value()
            elif not argument.has_default_value():
                raise UnsupportedModel(
                    f"forward wants {argument.name!r}, a {argument.type}: only tensors can be sent. Export it: {_EXPORT}"
                )

    def _describe_module(self, example: Arrays | None) -> Described:
        if example is None:
            raise NeedsExample(
                "this kind of PyTorch file does not say what shapes and dtypes it takes (a .pt2 of torch.export does)"
            )
        inputs = []
        for name, optional in self._arguments():
            array = named(example, name)
            if array is None:
                if not optional:
                    raise NeedsExample(f"the example has no {name!r}, which forward wants; it wants {self._names}")
                continue
            # JSON has one kind of float; the weights say which is meant.
            dtype = _name_of(self._floats) if array.dtype.kind == "f" else dtype_of(array)
            inputs.append(TensorSpec(name, dtype, (-1, *array.shape[1:]) if array.ndim else (), optional))
        self._names = [info.name for info in inputs]
        return Described(tuple(inputs), None, None)

    def _describe_program(self) -> Described:
        nodes = self._placeholders()
        inputs = tuple(TensorSpec(name, _name_of(nodes[name].dtype), _fixed(nodes[name].shape)) for name in self._names)
        results = self._results()
        outputs = tuple(TensorSpec(name, _name_of(value.dtype), _fixed(value.shape)) for name, value in results)
        first = [_first(nodes[name].shape) for name in self._names] + [_first(value.shape) for _, value in results]
        return Described(inputs, outputs, len(set(first)) == 1 and first[0] is not None)

    def _results(self) -> list[tuple[str, Any]]:
        pytree = self.framework("torch.utils._pytree")
        last = next(node for node in self._program.graph.nodes if node.op == "output")
        kinds = [spec.kind.name == "USER_OUTPUT" for spec in self._program.graph_signature.output_specs]
        values = [getattr(node, "meta", {}).get("val", node) for node, own in zip(last.args[0], kinds, strict=True) if own]
        return list(_outputs(pytree.tree_unflatten(values, self._program.call_spec.out_spec), self._torch.Tensor))

    def _placeholders(self) -> dict[str, Any]:
        return {node.name: node.meta.get("val") for node in self._program.graph.nodes if node.op == "placeholder"}

    def _most_rows(self) -> int | None:
        """Return the most rows the program was exported for, if it has a limit."""
        nodes = self._placeholders()
        batch = {str(nodes[name].shape[0]) for name in self._names if nodes[name].ndim}
        for symbol, limits in self._program.range_constraints.items():
            if str(symbol) in batch and str(limits.upper).isdigit() and int(limits.upper) < 1 << 31:
                return int(limits.upper)
        return None

    def _in_chunks(self, tensors: dict[str, Any]) -> Any:
        rows = len(next(iter(tensors.values())))
        if self._most is None or rows <= self._most:
            return self._call(tensors)
        starts = range(0, rows, self._most)
        parts = [
            dict(_outputs(self._call({k: v[at : at + self._most] for k, v in tensors.items()}), self._torch.Tensor))
            for at in starts
        ]
        return {name: self._torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _call(self, tensors: dict[str, Any]) -> Any:
        if self._program is None:
            return self._module(**tensors)
        pytree = self.framework("torch.utils._pytree")
        flat = [tensors[name] if name else constant for name, constant in self._slots]
        args, kwargs = pytree.tree_unflatten(flat, self._program.call_spec.in_spec)
        return self._module(*args, **kwargs)

    def _tensor(self, name: str, array: np.ndarray[Any, Any]) -> Any:
        torch = self._torch
        tensor = torch.tensor(array) if self._copies else torch.from_numpy(array)
        # BF16 arrives as float32, for want of a NumPy dtype.
        half = name in self._halves and tensor.dtype == torch.float32
        return tensor.to(device=self._device, dtype=torch.bfloat16 if half else tensor.dtype)


@contextlib.contextmanager
def _refusing_pickles() -> Iterator[None]:
    # torch.export.load falls back to a full unpickling of sample inputs and constants; this makes it fail instead.
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def _slots(program: Any, file: str) -> list[tuple[str, Any]]:
    """Return the flat arguments in order: ``(name, None)`` of a tensor, ``("", value)`` of what was fixed at export."""
    slots: list[tuple[str, Any]] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            continue
        kind = type(spec.arg).__name__
        if kind not in ("TensorArgument", "ConstantArgument"):
            raise UnsupportedModel(f"{file} takes {spec.arg.name!r}, a {kind}: only tensors can be sent")
        slots.append((spec.arg.name, None) if kind == "TensorArgument" else ("", spec.arg.value))
    return slots


def _outputs(result: Any, tensor: type) -> Iterator[tuple[str, Any]]:
    if isinstance(result, tensor):
        yield "output", result
    elif isinstance(result, Mapping):
        yield from ((str(name), value) for name, value in result.items() if isinstance(value, tensor))
    elif isinstance(result, Sequence) and not isinstance(result, str):
        fields = getattr(result, "_fields", None) or [f"output_{index}" for index in range(len(result))]
        for name, value in zip(fields, result, strict=True):
            if isinstance(value, tensor):
                yield name, value
            elif value is not None:
                raise UnsupportedModel(f"result {name!r} is a {type(value).__name__}: only tensors can be answered")
    else:
        raise UnsupportedModel(f"the model returns a {type(result).__name__}: return a tensor, a dict or a tuple of tensors")


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: np.ndarray[Any, Any] = tensor.cpu().numpy()
    return array


def _name_of(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise UnsupportedModel(f"a tensor is {dtype}, which the Open Inference Protocol has no name for: cast it in forward")
    return _DTYPES[name]


def _fixed(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(size) if str(size).isdigit() else -1 for size in shape)


def _first(shape: Sequence[Any]) -> str | None:
    """Return the symbol of the first dimension; None if there is none, or it is a number."""
    return None if not shape or str(shape[0]).isdigit() else str(shape[0])


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _is_script(members: list[str]) -> bool:
    return any(member.endswith("/constants.pkl") for member in members) and any("/code/" in member for member in members)
