"""scikit-learn: columns and their dtypes, kinds of estimators, and files that are not to be loaded."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import InvalidInput, NeedsExample
from headgate.runtimes.sklearn import SklearnRuntime

TABLE = pd.DataFrame({"n": [1.0, 2, 3, 4], "c": ["a", "b", "a", "c"], "k": [1, 2, 1, 2], "b": [True, False, True, True]})
Y = np.array([0, 1, 0, 1])


def loaded(tmp_path: Path, model: object, name: str = "m.joblib") -> SklearnRuntime:
    if name.endswith(".skops"):
        skops.io.dump(model, tmp_path / name)
    else:
        joblib.dump(model, tmp_path / name)
    runtime = SklearnRuntime()
    runtime.load(tmp_path / name, attribute="", device="cpu", threads=1)
    return runtime


def dtypes(runtime: SklearnRuntime, example=None) -> dict[str, str]:
    return {spec.name: spec.dtype for spec in runtime.describe(example).inputs}


def pipeline(*steps: tuple, table: pd.DataFrame = TABLE, **more: object):
    return make_pipeline(ColumnTransformer(list(steps), **more), LogisticRegression()).fit(table, Y)


def test_dtypes_of_columns_come_from_what_was_fitted(tmp_path: Path) -> None:
    steps = [("n", StandardScaler(), ["n"]), ("c", OneHotEncoder(), ["c", "b"]), ("k", OrdinalEncoder(), ["k"])]
    assert dtypes(loaded(tmp_path, pipeline(*steps))) == {"n": "FP64", "c": "BYTES", "k": "INT64", "b": "BOOL"}


def test_dropped_columns_are_not_asked_for(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, pipeline(("c", OneHotEncoder(), ["c"]), ("rest", "passthrough", [2])))
    assert dtypes(runtime) == {"c": "BYTES", "k": "FP64"}
    answer = runtime.predict({"c": np.array([b"a", b"c"], dtype=object), "k": np.array([1.0, 2.0])}, {})
    expected = pipeline(("c", OneHotEncoder(), ["c"]), ("rest", "passthrough", [2])).predict(TABLE.iloc[[0, 3]])
    assert answer["label"].tolist() == expected.tolist()


def test_a_text_column_and_a_function(tmp_path: Path) -> None:
    table = TABLE.assign(c=["good film", "bad film", "good", "very bad"])
    assert dtypes(loaded(tmp_path, pipeline(("t", CountVectorizer(), "c"), ("n", StandardScaler(), ["n"]), table=table))) == {
        "n": "FP64",
        "c": "BYTES",
    }
    runtime = loaded(tmp_path, pipeline(("f", FunctionTransformer(np.log1p), ["n", "k"])))
    with pytest.raises(NeedsExample, match="whether these columns are numbers or text: 'n', 'k'"):
        runtime.describe(None)
    assert dtypes(runtime, {"n": np.array([1.5]), "k": np.array([1])}) == {"n": "FP64", "k": "INT64"}


def test_an_example_with_whole_numbers_leaves_floats_floats(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, LinearRegression().fit(TABLE[["n"]], Y))
    assert dtypes(runtime, {"n": np.array([3])}) == {"n": "FP64"}


def test_unknown_categories_are_the_inputs_fault(tmp_path: Path) -> None:
    """The refusal names the input, the row, the value and what the model knows; the model's own sample is made of that."""
    runtime = loaded(tmp_path, pipeline(("k", OrdinalEncoder(), ["k"]), ("c", OneHotEncoder(), ["c"])))
    words = np.array([b"a", b"zebra"], dtype=object)
    with pytest.raises(InvalidInput, match=r"^input 'c', row 1 is zebra, not one of \['a', 'b', 'c'\]: Found unknown categories"):
        runtime.predict({"k": np.array([1, 2]), "c": words}, {})
    with pytest.raises(InvalidInput, match=r"^input 'k', row 0 is 9, not one of \[1, 2\]: "):
        runtime.predict({"k": np.array([9, 2]), "c": words[:1].repeat(2)}, {})
    assert set(runtime.sample()["c"].tolist()) == {b"a", b"b", b"c"}


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        (LogisticRegression(), {"n": [1, np.nan], "k": [1, 1]}, "input 'n', row 1 is nan: Input X contains NaN."),
        (LogisticRegression(), {"n": [np.nan, 1], "k": [1, np.nan]}, "input 'n', row 0 is nan; input 'k', row 1 is nan: Input X"),
        (LogisticRegression(), {"n": [1, np.inf], "k": [1, 1]}, "input 'n', row 1 is inf: Input X contains infinity"),
        (RandomForestClassifier(3), {"n": [1, 1], "k": [1e300, 1]}, "input 'k', row 0 is 1e+300: Input X contains infinity"),
    ],
)
def test_a_number_that_cannot_be_used_is_named(tmp_path: Path, model, inputs: dict[str, list[float]], said: str) -> None:
    """Missing and too large numbers are refused in one line that names input and row; scikit-learn says only that there are some."""
    runtime = loaded(tmp_path, model.fit(TABLE[["n", "k"]], Y))
    warnings.filterwarnings("ignore", message="overflow encountered in cast")  # scikit-learn's own, before it refuses
    with pytest.raises(InvalidInput) as refused:
        runtime.predict({name: np.array(values, dtype=float) for name, values in inputs.items()}, {})
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_a_number_of_a_matrix_is_named_by_row_and_column(tmp_path: Path) -> None:
    """Without named columns the place is a row and a column of the one input."""
    runtime = loaded(tmp_path, LogisticRegression().fit(TABLE[["n", "k"]].to_numpy(), Y))
    with pytest.raises(InvalidInput, match=r"^input 'input', row 1, column 0 is nan: "):
        runtime.predict({"input": np.array([[1, 2], [np.nan, 2]])}, {})


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (LinearSVC(), {"label"}),
        (IsolationForest(n_estimators=5), {"label"}),
        (LinearRegression(), {"prediction"}),
        (StandardScaler(), {"output"}),
        (RandomForestClassifier(5, n_jobs=-1), {"label", "probabilities"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_kinds(tmp_path: Path, model, outputs: set[str]) -> None:
    x = np.random.default_rng(0).random((12, 3))
    fitted = model.fit(x, np.arange(12) % 2)
    runtime = loaded(tmp_path, fitted)
    answer = runtime.predict({"input": x}, {})
    assert set(answer) == outputs
    direct = fitted.transform(x) if outputs == {"output"} else fitted.predict(x)
    assert np.allclose(next(iter(answer.values())), direct)


def test_multi_output_classifiers_give_labels(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(40).reshape(20, 2) % 2
    answer = loaded(tmp_path, RandomForestClassifier(5).fit(x, y)).predict({"input": x}, {})
    assert {name: array.shape for name, array in answer.items()} == {"label": (20, 2)}


def test_all_numbers_do_without_pandas_and_without_warnings(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, LogisticRegression().fit(TABLE[["n", "k"]], Y))
    assert runtime._pandas is None
    with warnings.catch_warnings():
        assert runtime.predict({"n": np.array([1.0]), "k": np.array([1.0])}, {})["label"].shape == (1,)


def test_text_columns_without_names_are_refused(tmp_path: Path) -> None:
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(TABLE[["c"]].to_numpy(), Y)
    with pytest.raises(UnsupportedModel, match="text columns without names: fit it on a pandas DataFrame"):
        loaded(tmp_path, model)


def test_what_is_no_estimator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"m\.joblib holds a dict, not an estimator"):
        loaded(tmp_path, {"a": 1})


class Foreign(StandardScaler):
    """Not scikit-learn's."""


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (make_pipeline(Foreign(), LinearRegression()).fit(TABLE[["n"]], Y), "Foreign"),
        (FunctionTransformer(np.loadtxt).fit([[1]]), "loadtxt"),
        (FunctionTransformer(joblib.load).fit([[1]]), "joblib"),
        (FeatureUnion([("f", FunctionTransformer(np.testing.assert_equal))]).fit([[1]]), "assert_equal"),
    ],
    ids=["class", "numpy function", "joblib.load", "nested"],
)
def test_skops_files_with_foreign_types_are_refused(tmp_path: Path, model, named: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"types that are not scikit-learn's, and loading those could run.*{named}"):
        loaded(tmp_path, model, "m.skops")


@pytest.mark.parametrize("name", ["old.pkl", "old.skops"])
def test_a_model_of_another_version_is_refused(tmp_path: Path, name: str) -> None:
    """It might answer differently without a word: refused, in either format, with the requirement that makes it the same again."""
    now, was = sklearn.__version__.encode(), b"0" + sklearn.__version__.encode()[1:]
    loaded(tmp_path, LinearRegression().fit([[1.0]], [1.0]), name)
    if name.endswith(".pkl"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes().replace(now, was))
    else:
        with zipfile.ZipFile(tmp_path / name) as whole:
            members = {member: whole.read(member).replace(now, was) for member in whole.namelist()}
        with zipfile.ZipFile(tmp_path / name, "w") as changed:
            for member, data in members.items():
                changed.writestr(member, data)
    with pytest.raises(UnsupportedModel, match=r"was saved by scikit-learn 0.*its own with scikit-learn==0.*--requirements"):
        SklearnRuntime().load(tmp_path / name, attribute="", device="cpu", threads=1)
