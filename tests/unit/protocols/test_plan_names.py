"""Names that no input or output has."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Plan


def test_the_likely_spelling_is_offered() -> None:
    """Of inputs and of outputs; where nothing is near, all that there are."""
    specs = [TensorSpec(name=name, dtype="FP32", shape=(-1,)) for name in ("alcohol", "malic_acid", "label")]
    plan = Plan("wine", Signature(inputs=tuple(specs[:2]), outputs=tuple(specs[2:]), batched=True), max_rows=4, splittable=True)
    with pytest.raises(
        InvalidRequest, match=r"unexpected inference input 'alcool' for model 'wine'; did you mean 'alcohol'\? it takes"
    ):
        plan.input("alcool")
    with pytest.raises(
        InvalidRequest, match=r"unexpected inference output 'lable' for model 'wine'; did you mean 'label'\? it gives"
    ):
        plan.output("lable")
    with pytest.raises(InvalidRequest, match=r"input 'x' for model 'wine'; it takes \['alcohol', 'malic_acid'\]"):
        plan.input("x")
