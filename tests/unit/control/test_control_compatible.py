"""Signatures of two revisions: what clients of the one would stumble over with the other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.control.compatible import incompatible
from headgate.package.signature import Signature, TensorSpec


def tensor(name: str, dtype: str = "FP32", shape: tuple[int, ...] = (-1, 3), **fields: Any) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape, **fields)


def signature(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (tensor("y"),), batched: bool = True, **fields: Any) -> bytes:
    return msgspec.json.encode(Signature(inputs=inputs, outputs=outputs, batched=batched, **fields))


OLD = signature(tensor("x"))


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        signature(tensor("x"), tensor("more", optional=True)),
        signature(tensor("more", optional=True), tensor("x")),
        signature(tensor("x", optional=True)),
        signature(tensor("x", shape=(-1, -1))),
        signature(tensor("x"), outputs=(tensor("y"), tensor("z"))),
    ],
)
def test_what_asks_for_nothing_more_goes_on(new: bytes) -> None:
    """The same, more that may be left out, wider inputs, further outputs."""
    assert incompatible(OLD, new) == ""


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (signature(tensor("x", dtype="FP64")), "input 'x' changes from FP32 to FP64"),
        (signature(tensor("X")), "input 'X' is new and not optional"),
        (signature(tensor("x"), tensor("more")), "input 'more' is new and not optional"),
        (signature(), "input 'x' is gone"),
        (signature(tensor("x", shape=(-1, 4))), "input 'x' changes its shape from [-1, 3] to [-1, 4]"),
        (signature(tensor("x", shape=(-1, 3, 1))), "input 'x' changes its shape from [-1, 3] to [-1, 3, 1]"),
        (signature(tensor("x"), outputs=(tensor("z"),)), "output 'y' is gone"),
        (signature(tensor("x"), outputs=(tensor("y", dtype="INT64"),)), "output 'y' changes from FP32 to INT64"),
        (signature(tensor("x"), batched=False), "only the old version has a batch axis"),
        (signature(tensor("x"), stateful=True), "only the new version keeps state between requests"),
        (signature(tensor("x"), streams=True), "only the new version answers in parts"),
    ],
)
def test_what_clients_would_stumble_over_is_named(new: bytes, said: str) -> None:
    """The tensor, what it was and what it would be."""
    assert incompatible(OLD, new) == said


def test_what_may_be_left_out_must_stay_so() -> None:
    """A client that has left it out so far would be refused."""
    assert incompatible(signature(tensor("x", optional=True)), OLD) == "input 'x' is not optional any more"


def test_text_that_becomes_json_is_no_text() -> None:
    """What BYTES hold is part of what a client must know."""
    old, new = (signature(tensor("x", dtype="BYTES", shape=(-1,), content=content)) for content in ("", "json"))
    assert incompatible(old, new) == "input 'x' changes from text to json"
