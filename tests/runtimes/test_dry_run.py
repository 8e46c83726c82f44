"""The dry run: what a model does decides its signature, and what it cannot decide it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import PackageError
from headgate.runtimes.base import Arrays, Described, Runtime, TensorSpec
from headgate.serving.dryrun import dry_run, further_runs, same

X = TensorSpec("x", "FP32", (-1, 3))
Y = TensorSpec("y", "FP32", (-1,))


class Plain(Runtime):
    """A model that is one function."""

    title = "Plain"

    def __init__(self, function: Callable[[Arrays], Arrays], known: Arrays | None = None) -> None:
        self.function, self.known, self.calls = function, known, []

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None: ...

    def describe(self, example: Arrays | None) -> Described:
        raise NotImplementedError

    def sample(self) -> Arrays | None:
        return self.known

    def predict(self, inputs: Arrays, parameters: object) -> Arrays:
        self.calls.append(inputs)
        return self.function(inputs)


def found(function, inputs=(X,), outputs=None, batched=None, example=None, known=None):
    return dry_run(Plain(function, known), Described(tuple(inputs), outputs, batched), example)


def test_outputs_and_the_batch_axis_are_filled_in() -> None:
    outcome = found(lambda i: {"y": i["x"].sum(1), "name": np.array(["a"] * len(i["x"]))})
    assert outcome.described.outputs == (Y, TensorSpec("name", "BYTES", (-1,)))
    assert outcome.described.batched is True
    assert not outcome.warning


@pytest.mark.parametrize(
    "function",
    [
        lambda i: {"y": (i["x"] - i["x"].mean(0)).sum(1)},  # looks at its neighbours
        lambda i: {"y": i["x"].sum(1)[::-1]},  # turns the order round
        lambda i: {"y": i["x"].sum(1)[:2]},  # loses a row
        lambda i: {"y": i["x"].sum()[None]},  # answers once
        lambda i: {"y": i["x"].reshape(3).copy()},  # takes one row only
    ],
)
@pytest.mark.parametrize("claimed", [None, True])
def test_rows_that_are_not_independent_are_not_batched(function, claimed) -> None:
    described = found(function, batched=claimed).described
    assert described.batched is False
    assert described.inputs == (X,)


def test_a_model_that_draws_lots_is_judged_by_its_shapes() -> None:
    random = np.random.default_rng(0)
    assert found(lambda i: {"y": random.random(len(i["x"]), dtype=np.float32)}).described.batched is True


def test_dimensions_that_follow_the_input_vary() -> None:
    words = TensorSpec("ids", "INT64", (-1, -1))
    each = found(lambda i: {"each": i["ids"] * 2, "mean": np.ones((len(i["ids"]), 4))}, [words]).described.outputs
    assert [spec.shape for spec in each] == [(-1, -1), (-1, 4)]


def test_declared_dimensions_that_vary_stay_so_and_wrong_ones_are_corrected() -> None:
    declared = (TensorSpec("y", "FP64", (-1, -1)), TensorSpec("z", "FP32", (-1, 9)))
    outputs = found(lambda i: {"y": i["x"], "z": i["x"]}, outputs=declared, batched=True).described.outputs
    assert outputs == (TensorSpec("y", "FP32", (-1, -1)), TensorSpec("z", "FP32", (-1, 3)))


def test_other_values_and_sizes_are_tried() -> None:
    def embeds(inputs: Arrays) -> Arrays:
        return {"y": np.zeros(2, np.float32)[inputs["x"]].sum(1)}  # knows 0 and 1 only

    assert found(embeds, [TensorSpec("x", "INT64", (-1, 3))]).described.batched is True

    def convolves(inputs: Arrays) -> Arrays:
        if inputs["x"].shape[1] < 60:
            raise ValueError("too small")
        return {"y": inputs["x"].sum(1)}

    assert found(convolves, [TensorSpec("x", "FP32", (-1, -1))]).described.outputs == (Y,)


def test_what_the_model_knows_to_fit_comes_first() -> None:
    def picky(inputs: Arrays) -> Arrays:
        if not set(inputs["city"].tolist()) <= {b"Oslo", b"Rome"}:
            raise ValueError("unknown city")
        return {"y": np.ones(len(inputs["city"]))}

    city = TensorSpec("city", "BYTES", (-1,))
    known = {"city": np.array([b"Oslo", b"Rome", b"Oslo"], dtype=object)}
    assert found(picky, [city], known=known).described.batched is True
    with pytest.raises(PackageError, match=r"cannot be run on made-up input \(ValueError: unknown city .*\).*--example FILE"):
        found(picky, [city])
    outcome = found(picky, [city], outputs=(Y,), batched=True)
    assert outcome.described.outputs == (Y,)
    assert "was not run" in outcome.warning


def test_models_without_a_batch_axis_run_once() -> None:
    inputs = [TensorSpec("v", "FP32", (4,)), TensorSpec("k", "FP64", ())]
    described = found(lambda i: {"y": i["v"] * i["k"], "n": np.array(3)}, inputs).described
    assert described.batched is False
    assert [spec.shape for spec in described.outputs] == [(4,), ()]


def test_examples_are_cast_to_the_signature_and_repeated() -> None:
    runtime = Plain(lambda i: {"y": i["x"].sum(1)})
    dry_run(runtime, Described((X,), None, None), {"": np.array([[1, 2, 3]])})
    seen = runtime.calls[1]["x"]
    assert seen.dtype == np.float32
    assert np.allclose(seen, [[1, 2, 3]] * 3, rtol=0.03)
    assert len(np.unique(seen, axis=0)) == 3


def test_one_row_without_its_axis_is_one_row() -> None:
    assert found(lambda i: {"y": i["x"].sum(1)}, example={"": np.array([1.0, 2, 3])}).described.batched is True
    scalar = TensorSpec("s", "INT64", ())
    assert found(lambda i: {"y": i["s"] * 1.0}, [scalar], example={"s": np.array([3])}).described.outputs[0].shape == ()


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({"": np.ones((2, 4))}, r"input 'x' of the example has shape \[2, 4\], the model takes \[-1, 3\]"),
        ({"xx": np.ones((2, 3))}, r"the example has 'xx', which is no input of the model: it takes \['x'\]"),
        ({}, "the example lacks the input 'x'"),
        ({"x": np.full((1, 3), b"a", dtype=object)}, "input 'x' of the example is BYTES, the model takes FP32"),
        ({"x": np.full((1, 3), 99.0)}, "the model fails on the input example: ValueError: too large"),
    ],
)
def test_examples_that_do_not_fit(example: Arrays, said: str) -> None:
    def limited(inputs: Arrays) -> Arrays:
        if inputs["x"].max() > 9:
            raise ValueError("too large")
        return {"y": inputs["x"].sum(1)}

    with pytest.raises(PackageError, match=said):
        found(limited, example=example, outputs=(Y,), batched=True)


def test_fractions_for_whole_numbers_are_refused() -> None:
    with pytest.raises(PackageError, match="holds fractions, the model takes INT64"):
        found(lambda i: {"y": i["n"]}, [TensorSpec("n", "INT64", (-1,))], example={"n": np.array([1.5])})


def test_a_bare_list_cannot_stand_for_two_inputs() -> None:
    with pytest.raises(PackageError, match="is a bare list, and the model takes 2 inputs"):
        found(lambda i: {"y": i["x"]}, [X, TensorSpec("z", "FP32", (-1,))], example={"": np.ones((1, 3))})


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0, 1e-9], [1.0, 0.0], True),
        ([np.inf], [np.inf], True),
        ([1, 2], [1, 3], False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ([1.0], [[1.0]], False),
    ],
)
def test_same(one: list, other: list, equal: bool) -> None:
    assert same({"y": np.array(one)}, {"y": np.array(other)}) is equal
    assert not same({"y": np.array(one)}, {"z": np.array(one)})


def test_bytes_and_text_are_the_same() -> None:
    assert same({"y": np.array(["é"])}, {"y": np.array(["é".encode()], dtype=object)})


class Several(Plain):
    """The same with further signatures, a function each."""

    def __init__(self, function: Callable[[Arrays], Arrays], **further: Callable[[Arrays], Arrays]) -> None:
        super().__init__(function)
        self.further = further

    def predict_by(self, signature: str, inputs: Arrays, parameters: object) -> Arrays:
        return self.further[signature](inputs)


def fails(_: Arrays) -> Arrays:
    raise ValueError("not with made-up input")


def test_every_signature_is_tried() -> None:
    """Each is completed by what it does; one of which nothing can be said is left out with a sentence, and none takes the others along."""
    runtime = Several(
        lambda i: {}, turn=lambda i: {"y": i["x"][:, ::-1]}, odd=lambda i: {"y": i["x"].sum()}, bad=fails, known=fails
    )
    further = (
        Described((X,), None, None, name="turn"),
        Described((TensorSpec("x", "FP32", (2, 3)),), None, False, name="odd"),
        Described((X,), None, None, name="bad"),
        Described((X,), (Y,), True, name="known", method="classify"),
    )
    described = Described((X,), (Y,), True, further=further, remarks=("the signature 'z' is left out: it is complex",))
    found, sentences = further_runs(runtime, described, None)
    assert [(each.name, each.batched, each.outputs) for each in found.further] == [
        ("turn", True, (TensorSpec("y", "FP32", (-1, 3)),)),
        ("odd", False, (TensorSpec("y", "FP32", ()),)),
        ("known", True, (Y,)),
    ]
    assert found.further[2].method == "classify"
    said = "\n".join(sentences)
    assert said.startswith("the signature 'z' is left out: it is complex\nthe signature 'bad' is left out: the model cannot be run")
    assert "the signature 'known': the model was not run" in said and len(sentences) == 3


def test_the_example_is_tried_where_it_fits() -> None:
    """It was made for the first signature; others with the same inputs run on it too, and those with other inputs on what is made up."""
    seen: list[Arrays] = []
    runtime = Several(lambda i: {}, same=lambda i: (seen.append(i), {"y": i["x"].sum(1)})[1], other=lambda i: {"z": i["a"]})
    further = (Described((X,), None, None, name="same"), Described((TensorSpec("a", "INT64", (-1,)),), None, None, name="other"))
    found, sentences = further_runs(runtime, Described((X,), (Y,), True, further=further), {"x": np.array([[7.0, 8.0, 9.0]])})
    assert seen[0]["x"].tolist() == [[7, 8, 9]] and not sentences
    assert [each.name for each in found.further] == ["same", "other"]
