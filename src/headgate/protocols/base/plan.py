"""A signature prepared for decoding: what a request may hold, and the checks that every protocol shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.errors import InvalidRequest, did_you_mean
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base.exchange import InferRequest
from headgate.tensors import DTYPES, DType, elements

Shape = Sequence[int]
LARGEST_COUNT = (1 << 63) - 1
_WIDEST = 8
"""Bytes of the widest element."""
MOST_PIECES = 4096
"""Batches that one request may be split into."""


class InputPlan:
    """One input of a signature, with what the hot path needs worked out."""

    __slots__ = ("content", "dtype", "field", "fixed", "index", "item_size", "name", "optional", "shape", "tail", "typecode")

    def __init__(self, index: int, spec: TensorSpec, batched: bool) -> None:
        self.index = index
        self.name = spec.name
        self.field = f"input '{spec.name}'"
        """As messages call it."""
        self.dtype: DType = DTYPES[spec.dtype]
        self.typecode = self.dtype.typecode
        self.item_size = self.dtype.size
        self.shape = list(spec.shape)
        self.tail = list(spec.shape[1:]) if batched else list(spec.shape)
        self.fixed = -1 not in self.tail
        self.optional = spec.optional
        self.content = spec.content


class Plan:
    """A signature prepared for decoding: lookups by name, and the checks that every protocol shares."""

    __slots__ = (
        "batched",
        "by_name",
        "each",
        "inputs",
        "kind",
        "max_rows",
        "model",
        "notes",
        "number",
        "outputs",
        "parameters",
        "required",
        "signature",
        "single",
        "splittable",
        "stateful",
        "streams",
        "uniform",
    )

    def __init__(self, model: str, signature: Signature, *, max_rows: int, splittable: bool) -> None:
        self.model = model
        self.signature = signature
        self.batched = signature.batched
        self.parameters = signature.parameters
        self.stateful = signature.stateful
        self.streams = signature.streams
        self.inputs = [InputPlan(index, spec, signature.batched) for index, spec in enumerate(signature.inputs)]
        self.by_name = {plan.name: plan for plan in self.inputs}
        self.outputs = {spec.name: index for index, spec in enumerate(signature.outputs)}
        self.required = sum(not plan.optional for plan in self.inputs)
        self.uniform = all(plan.fixed and not plan.optional for plan in self.inputs) and not signature.parameters
        """Any two requests fit into one batch."""
        self.single = self.uniform and self.batched and len(self.inputs) == 1
        """There is one input, and its first dimension says all."""
        kinds = {"int" if plan.dtype.kind == "uint" else plan.dtype.kind for plan in self.inputs}
        self.kind = kinds.pop() if len(kinds) == 1 else "mixed"
        """Of all inputs, where they share one: ``float``, ``int``, ``bool``, ``bytes``; lets a decoder check types as it parses."""
        self.max_rows = max_rows
        self.splittable = splittable
        self.notes: dict[Any, Any] = {}
        """What a protocol has worked out about requests for this plan; goes with it."""
        self.number = 0
        """Of its signature among those of the model."""
        self.each: Sequence[Plan] = ()
        """The plans of all signatures of the model by their numbers, where there are several: see `headgate.protocols.base.several`."""

    def input(self, name: str) -> InputPlan:
        """Return the input called ``name``. Raises `InvalidRequest` if there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            hint = did_you_mean(name[:200], self.by_name) or ";"
            raise InvalidRequest(
                f"unexpected inference input '{name[:200]}' for model '{self.model}'{hint} it takes {sorted(self.by_name)}"
            ) from None

    def output(self, name: str) -> int:
        """Return the index of the output called ``name``. Raises `InvalidRequest` if there is none."""
        index = self.outputs.get(name)
        if index is None:
            hint = did_you_mean(name[:200], self.outputs) or ";"
            raise InvalidRequest(
                f"unexpected inference output '{name[:200]}' for model '{self.model}'{hint} it gives {sorted(self.outputs)}"
            )
        return index

    def check(self, plan: InputPlan, datatype: str, shape: Shape) -> None:
        """Refuse a dtype or shape that input ``plan`` does not take. Raises `InvalidRequest`."""
        if datatype != plan.dtype.name:
            raise InvalidRequest(self._wrong_dtype(plan, datatype))
        tail = shape[1:] if self.batched else shape
        if tail != plan.tail:
            self._check_tail(plan, shape, tail)
        if self.batched and (not shape or shape[0] < 0):
            raise InvalidRequest(self._wrong_shape(plan, shape))

    def _check_tail(self, plan: InputPlan, shape: Shape, tail: Shape) -> None:
        if any(size < 0 for size in shape):
            raise InvalidRequest(
                f"invalid shape for input '{plan.name}': shape {list(shape)} contains one or more invalid dimensions; "
                "sizes are 0 or more"
            )
        if len(tail) != len(plan.tail) or any(want not in (-1, size) for want, size in zip(plan.tail, tail, strict=True)):
            raise InvalidRequest(self._wrong_shape(plan, shape))
        # Sizes of 0 do not make the others smaller: NumPy would refuse such a shape, and a struct such a size.
        if elements(size or 1 for size in shape) > LARGEST_COUNT // _WIDEST:
            raise InvalidRequest(
                f"shape of input '{plan.name}' causes total element count to exceed maximum size of {LARGEST_COUNT}"
            )

    def _wrong_dtype(self, plan: InputPlan, datatype: str) -> str:
        if datatype not in DTYPES:
            return f"invalid datatype for input '{plan.name}': '{datatype[:50]}'; model '{self.model}' expects '{plan.dtype.name}'"
        return f"inference input '{plan.name}' data-type is '{datatype}', but model '{self.model}' expects '{plan.dtype.name}'"

    def _wrong_shape(self, plan: InputPlan, shape: Shape) -> str:
        note = " NOTE: the first dimension is the batch" if self.batched else ""
        expected = ",".join(map(str, plan.shape))
        return (
            f"unexpected shape for input '{plan.name}' for model '{self.model}'. "
            f"Expected [{expected}], got [{','.join(map(str, shape))}].{note}"
        )

    def finish(self, request: InferRequest) -> InferRequest:
        """Check what only shows once all inputs are there, and work out ``rows`` and ``key``. Raises `InvalidRequest`."""
        shapes = request.shapes
        if self.uniform:
            if None in shapes:
                raise InvalidRequest(self._missing(request))
        elif any(shape is None and not plan.optional for shape, plan in zip(shapes, self.inputs, strict=True)):
            raise InvalidRequest(self._missing(request))
        if not self.batched:
            request.rows = 1
            return request
        if self.single:
            rows = shapes[0][0]
            if rows > self.max_rows:
                self._check_rows(rows)
            request.rows = rows
            return request
        rows = next((shape[0] for shape in shapes if shape is not None), None)
        if rows is None:
            raise InvalidRequest(f"expected at least 1 input for model '{self.model}', got none; it takes {sorted(self.by_name)}")
        for plan, shape in zip(self.inputs, shapes, strict=True):
            if shape is not None and shape[0] != rows:
                raise InvalidRequest(
                    f"input '{plan.name}' batch size does not match other inputs for '{self.model}': "
                    f"got {shape[0]} rows, others have {rows}"
                )
        self._check_rows(rows)
        request.rows = rows
        if not self.uniform:
            request.key = self._key(request)
        return request

    def _check_rows(self, rows: int) -> None:
        most = self.max_rows * MOST_PIECES if self.splittable else self.max_rows
        if rows > most:
            raise InvalidRequest(f"inference request batch-size must be <= {most} for '{self.model}', got {rows}")

    def _key(self, request: InferRequest) -> object:
        tails = tuple(None if shape is None else tuple(shape[1:]) for shape in request.shapes)
        return (tails, repr(request.parameters)) if self.parameters else tails

    def _missing(self, request: InferRequest) -> str:
        got = [plan.name for plan, shape in zip(self.inputs, request.shapes, strict=True) if shape is not None]
        missing = [plan.name for plan in self.inputs if not plan.optional and plan.name not in got]
        return (
            f"expected {self.required} inputs but got {len(got)} inputs for model '{self.model}'. Got input(s) {got}, "
            f"but missing required input(s) {missing}. Please provide all required input(s)."
        )
