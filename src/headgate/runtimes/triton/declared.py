"""Inputs and outputs as ``config.pbtxt`` declares them, and the shapes that a back end sees where they are others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headgate.runtimes.base import TensorSpec


class Declared(NamedTuple):
    """One input or output. Shapes are without the batch axis; -1 varies."""

    name: str
    dtype: str
    """Open Inference Protocol name."""
    dims: tuple[int, ...]
    """Of requests and answers."""
    reshape: tuple[int, ...] | None = None
    """What the back end sees, where it is not ``dims``."""
    optional: bool = False

    @property
    def within(self) -> tuple[int, ...]:
        """The shape that the back end sees."""
        return self.dims if self.reshape is None else self.reshape

    def spec(self, batched: bool) -> TensorSpec:
        """Return it as a signature has it."""
        return TensorSpec(self.name, self.dtype, (-1, *self.dims) if batched else self.dims, self.optional)

    def inwards(self, array: np.ndarray[Any, Any], batched: bool) -> np.ndarray[Any, Any]:
        """Return an array of a request in the shape that the back end sees."""
        return array if self.reshape is None else _reshaped(array, self.dims, self.reshape, batched)

    def outwards(self, array: np.ndarray[Any, Any], batched: bool) -> np.ndarray[Any, Any]:
        """Return an array of the back end in the shape of an answer."""
        return array if self.reshape is None else _reshaped(array, self.reshape, self.dims, batched)


def declared(fields: Mapping[str, Any]) -> Declared:
    """Return what the package's entry says of one input or output."""
    reshape = fields.get("reshape")
    return Declared(
        fields["name"],
        fields["dtype"],
        tuple(fields["dims"]),
        None if reshape is None else tuple(reshape),
        fields.get("optional", False),
    )


def _reshaped(array: np.ndarray[Any, Any], before: Sequence[int], after: Sequence[int], batched: bool) -> np.ndarray[Any, Any]:
    """Give an array the shape ``after``; the sizes that vary in ``before`` go, in order, where ``after`` varies."""
    lead = array.shape[:1] if batched else ()
    varying = iter([size for said, size in zip(before, array.shape[len(lead) :], strict=True) if said < 0])
    return array.reshape((*lead, *(next(varying) if size < 0 else size for size in after)))
