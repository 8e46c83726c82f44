"""scikit-learn models: skops files, and joblib or pickle files from people who are trusted."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, InvalidInput, NeedsExample, Runtime, TensorSpec, decoded, named
from headgate.tensors import dtype_of

_BY_ARGMAX = {"DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier"}
"""Classifiers whose predict is the argmax of predict_proba, so that one pass over the trees gives both."""


class Column(NamedTuple):
    """What the fitted model says of one named input column."""

    dtype: str | None
    """Open Inference Protocol name; None: it does not say."""
    values: tuple[Any, ...] = ()
    """Some values it was trained on."""


class SklearnRuntime(Runtime):
    """A fitted estimator or pipeline.

    Outputs: classifiers ``label`` and ``probabilities``, regressors ``prediction``, clusterers and outlier detectors ``label``,
    transformers ``output``. Inputs: one per named column, shape [-1], or ``input`` FP64 [-1, features], or ``input`` BYTES [-1] for text.
    """

    title = "scikit-learn"
    platform = "sklearn_pipeline"
    suffixes = frozenset({".skops", ".joblib", ".pkl", ".pickle"})
    pickled = frozenset({".joblib", ".pkl", ".pickle"})
    safer = 'Save it with skops.io.dump(model, "model.skops"), which loads without running code.'
    requires = ("sklearn", "skops")
    extra = "sklearn"

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load and look at the estimator. Raises `UnsupportedModel` if there is none, or a ``.skops`` file holds foreign types."""
        self.framework("sklearn")
        self.framework("sklearn.base")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = self._load_skops(path) if path.suffix.lower() == ".skops" else self._load_pickle(path)
        for warning in caught:
            _check_version(warning.message)
        self._kind = _kind(model, path.name)
        _limit_jobs(model, threads)
        self._model = model
        steps = model.steps if hasattr(model, "steps") else []
        # A pipeline's predict and predict_proba would each run all the transformers.
        self._before = model[:-1] if len(steps) > 1 else None
        self._final = model[-1] if steps else model
        self._columns = _columns(model)
        self._text = self._columns is None and _is_text(model)
        self._width: int | None = None if self._text else getattr(model, "n_features_in_", None)
        self._pandas: Any = self.framework("pandas") if self._columns and _wants_frame(model, self._columns) else None
        # We pass plain matrices in the order of the fitted columns.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def describe(self, example: Arrays | None) -> Described:
        """Name the fitted columns; their dtypes are what was fitted, or ``example``'s. Raises `NeedsExample` where neither says."""
        inputs = self._inputs(example)
        return Described(inputs, self._outputs(), True)

    def sample(self) -> Arrays | None:
        """Return rows of trained categories, if all columns of text have some."""
        if not self._columns or any(column.dtype == "BYTES" and not column.values for column in self._columns.values()):
            return None
        return {name: _three(column) for name, column in self._columns.items()}

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run the pipeline. Raises `InvalidInput` where a category is unknown or a value cannot be used."""
        rows = self._rows(inputs)
        try:
            if self._before is not None:
                rows = self._before.transform(rows)
            return self._run(rows)
        except ValueError as error:
            # All scikit-learn can complain about in an already fitted model is what is in the rows: NaN, unknown categories.
            raise InvalidInput(self._blamed(str(error).partition("\n")[0], inputs)) from error

    def _run(self, rows: Any) -> Arrays:
        final = self._final
        if self._kind == "transformer":
            return {"output": _dense(final.transform(rows))}
        if self._kind != "classifier":
            return {"prediction" if self._kind == "regressor" else "label": np.asarray(final.predict(rows))}
        if not hasattr(final, "predict_proba") or isinstance(final.classes_, list):
            return {"label": np.asarray(final.predict(rows))}
        probabilities = np.asarray(final.predict_proba(rows))
        if type(final).__name__ in _BY_ARGMAX:
            return {"label": final.classes_.take(probabilities.argmax(axis=1)), "probabilities": probabilities}
        return {"label": np.asarray(final.predict(rows)), "probabilities": probabilities}

    def _blamed(self, text: str, inputs: Arrays) -> str:
        """Return ``text`` with the inputs and rows it is about: scikit-learn names none, and counts columns within its own steps."""
        known = _known_categories(self._model, list(self._columns or ())) if "unknown categories" in text else {}
        places = [place for name, array in inputs.items() for place in _first_wrong(name, array, text, known.get(name))]
        return f"{'; '.join(places)}: {text}" if places else text

    def _rows(self, inputs: Arrays) -> Any:
        if self._text:
            return decoded("input", inputs["input"]).ravel().tolist()
        if self._columns is None:
            return inputs["input"]
        columns = {name: decoded(name, inputs[name]) for name in self._columns}
        if self._pandas is not None:
            return self._pandas.DataFrame(columns)
        return np.column_stack(list(columns.values()))

    def _inputs(self, example: Arrays | None) -> tuple[TensorSpec, ...]:
        if self._text:
            return (TensorSpec("input", "BYTES", (-1,)),)
        if self._columns is None:
            if self._width is None:
                raise UnsupportedModel("the model does not say how many features it takes (n_features_in_): is it fitted?")
            return (TensorSpec("input", "FP64", (-1, self._width)),)
        chosen = {name: _chosen(column, named(example, name)) for name, column in self._columns.items()}
        unknown = [name for name, dtype in chosen.items() if dtype is None]
        if unknown:
            raise NeedsExample(f"the model does not say whether these columns are numbers or text: {', '.join(map(repr, unknown))}")
        return tuple(TensorSpec(name, str(dtype), (-1,)) for name, dtype in chosen.items())

    def _outputs(self) -> tuple[TensorSpec, ...] | None:
        classes = getattr(self._final, "classes_", None)
        if self._kind != "classifier" or not isinstance(classes, np.ndarray):
            return None
        label = TensorSpec("label", dtype_of(classes), (-1,))
        if not hasattr(self._final, "predict_proba"):
            return (label,)
        return (label, TensorSpec("probabilities", "FP64", (-1, len(classes))))

    def _load_skops(self, path: Path) -> Any:
        io = self.framework("skops.io")
        try:
            unusual = io.get_untrusted_types(file=path)
        except Exception as error:
            raise self.unreadable(path, f"not a readable skops file: {error}") from error
        foreign = [name for name in unusual if not _is_harmless(name)]
        if foreign:
            raise UnsupportedModel(
                f"{path.name} holds types that are not scikit-learn's, and loading those could run their code: {', '.join(foreign)}. "
                "Build the model from scikit-learn's own steps, or serve it as a Python class that loads it (model.py:Model)"
            )
        try:
            return io.load(path, trusted=unusual)
        except ModuleNotFoundError:
            raise
        except Exception as error:
            raise self.unreadable(path, f"{type(error).__name__}: {error}") from error

    def _load_pickle(self, path: Path) -> Any:
        joblib = self.framework("joblib")
        try:
            return joblib.load(path)
        except ModuleNotFoundError:
            raise
        except Exception as error:
            raise UnsupportedModel(f"{path.name} cannot be unpickled: {type(error).__name__}: {error}") from error


def _check_version(warning: Any) -> None:
    """Refuse a model of another minor version: its answers may differ silently, and that must not pass as a line in a log."""
    was, now = (getattr(warning, f"{which}_sklearn_version", "") for which in ("original", "current"))
    if was.split(".")[:2] != now.split(".")[:2]:
        raise UnsupportedModel(
            f"the model was saved by scikit-learn {was}, and this is {now}, which may answer differently. Give it an environment of "
            f"its own with scikit-learn=={was}: --requirements requirements.txt"
        )


def _kind(model: Any, name: str) -> str:
    base = importlib.import_module("sklearn.base")
    if not isinstance(model, base.BaseEstimator) and not hasattr(model, "predict"):
        raise UnsupportedModel(f"{name} holds a {type(model).__name__}, not an estimator")
    if hasattr(model, "predict"):
        for kind in ("classifier", "clusterer", "outlier_detector"):
            if getattr(base, f"is_{kind}")(model):
                return kind
        return "regressor"
    if hasattr(model, "transform"):
        return "transformer"
    raise UnsupportedModel(f"{name} holds a {type(model).__name__}, which has neither predict nor transform for new rows")


def _is_sklearn_class(name: str) -> bool:
    # Functions are left out: among them are some that run or fetch what their arguments say.
    module, _, attribute = name.rpartition(".")
    return module.partition(".")[0] == "sklearn" and isinstance(_resolved(module, attribute), type)


def _is_harmless(name: str) -> bool:
    """Whether a type in a skops file is scikit-learn's own class, or a NumPy scalar or dtype."""
    module, _, attribute = name.rpartition(".")
    if module == "numpy" or module.startswith("numpy.dtypes"):
        found = _resolved(module, attribute)
        return isinstance(found, type) and issubclass(found, (np.generic, np.dtype))
    return not module.startswith("sklearn.externals") and _is_sklearn_class(name)


def _resolved(module: str, attribute: str) -> object:
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def _limit_jobs(model: Any, threads: int) -> None:
    parameters = model.get_params() if hasattr(model, "get_params") else {}
    jobs = {key: threads for key, value in parameters.items() if key.rpartition("__")[2] == "n_jobs" and value is not None}
    if jobs:
        model.set_params(**jobs)


def _first(model: Any) -> Any:
    while hasattr(model, "steps"):
        model = next((step for _, step in model.steps if step not in (None, "passthrough")), None)
    return model


def _leaves(transformer: Any, columns: list[str]) -> Iterator[tuple[Any, list[str]]]:
    """Yield what sees the raw columns, with their names, through pipelines and column transformers."""
    first = _first(transformer)
    if hasattr(first, "transformers_"):
        for _, inner, chosen in first.transformers_:
            if not (isinstance(inner, str) and inner == "drop"):
                yield from _leaves(inner, _selected(first, chosen, columns))
    else:
        yield first, columns


def _selected(transformer: Any, chosen: Any, columns: list[str]) -> list[str]:
    if isinstance(chosen, slice):
        return columns[chosen]
    array = np.atleast_1d(np.asarray(chosen))
    if array.dtype.kind == "b":
        return [name for name, taken in zip(columns, array, strict=True) if taken]
    return [columns[item] if isinstance(item, int) else str(item) for item in array.tolist()]


def _columns(model: Any) -> dict[str, Column] | None:
    """Return the named columns the model takes, in fitted order; None if it was fitted on a plain matrix of numbers, or on text."""
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is None:
        fitted = getattr(_first(model), "feature_names_in_", None)
    if fitted is None:
        width = getattr(model, "n_features_in_", 0)
        if any(
            _column(leaf, 0).dtype == "BYTES" for leaf, _ in _leaves(model, [str(i) for i in range(width)]) if not _is_text(leaf)
        ):
            raise UnsupportedModel(
                "the model takes text columns without names: fit it on a pandas DataFrame, so that inputs have names"
            )
        return None
    names = [str(name) for name in fitted]
    found: dict[str, Column] = {}
    for leaf, columns in _leaves(model, names):
        for index, name in enumerate(columns):
            found[name] = _merged(found.get(name), _column(leaf, index))
    return {name: found[name] for name in names if name in found}


def _merged(one: Column | None, other: Column) -> Column:
    return one if one is not None and one.dtype is not None and not (other.values and not one.values) else other


def _column(leaf: Any, index: int) -> Column:
    if _is_vectorizer(leaf):
        return Column("BYTES", (b"some text", b"more text", b"other words"))
    preprocessor = getattr(leaf, "_preprocessor", None)  # histogram boosting fitted on a frame with categories
    if preprocessor is not None:
        return next(
            (_column(inner, columns.index(index)) for inner, columns in _parts(preprocessor) if index in columns), Column("FP64")
        )
    categories = getattr(leaf, "categories_", None)
    if categories is not None and index < len(categories):
        return _of_categories(np.asarray(categories[index]))
    statistics = getattr(leaf, "statistics_", None)
    if statistics is not None:
        return Column("BYTES" if np.asarray(statistics).dtype.kind in "OUS" else "FP64")
    if isinstance(leaf, str) or getattr(leaf, "func", leaf) is None:
        return Column("FP64")  # passed through to an estimator, which wants numbers
    own = _is_sklearn_class(f"{type(leaf).__module__}.{type(leaf).__name__}") and not hasattr(leaf, "func")
    return Column("FP64" if own else None)


def _parts(preprocessor: Any) -> Iterator[tuple[Any, list[int]]]:
    for _, inner, chosen in preprocessor.transformers_:
        array = np.asarray(chosen)
        yield inner, (np.flatnonzero(array) if array.dtype.kind == "b" else array).tolist()


def _of_categories(categories: np.ndarray[Any, Any]) -> Column:
    kind = categories.dtype.kind
    values = tuple(categories[:3].tolist())
    if kind in "OUS":
        text = all(isinstance(value, str) for value in categories.tolist() if value is not None and value == value)
        strings = tuple(str(value).encode() for value in categories.tolist() if isinstance(value, str))[:3]
        return Column("BYTES", strings) if text else Column(None)
    return Column({"b": "BOOL", "i": "INT64", "u": "INT64"}.get(kind, "FP64"), values)


def _is_vectorizer(leaf: Any) -> bool:
    return any(kind.__name__ in ("CountVectorizer", "HashingVectorizer") for kind in type(leaf).__mro__)


def _is_text(model: Any) -> bool:
    return _is_vectorizer(_first(model))


def _wants_frame(model: Any, columns: dict[str, Column]) -> bool:
    """Whether columns are not all numbers, or some step picks them by name or kind, or is not scikit-learn's, and so may."""
    first = type(_first(model))
    picks = first.__name__ in ("ColumnTransformer", "FeatureUnion", "FunctionTransformer")
    return picks or first.__module__.partition(".")[0] != "sklearn" or any(column.dtype != "FP64" for column in columns.values())


def _known_categories(model: Any, columns: list[str]) -> dict[str, list[Any]]:
    """Return the categories of each column that an encoder was fitted on."""
    return {
        name: np.asarray(leaf.categories_[index]).tolist()
        for leaf, names in _leaves(model, columns)
        if hasattr(leaf, "categories_")
        for index, name in enumerate(names)
    }


def _first_wrong(name: str, array: np.ndarray[Any, Any], text: str, known: list[Any] | None) -> Iterator[str]:
    """Yield where the input ``name`` first has what scikit-learn complains about, if it does: NaN, a number too large, a category."""
    if known is not None:
        array = decoded(name, array)
        wrong = np.array([item not in known for item in array.ravel().tolist()]).reshape(array.shape)
    elif array.dtype.kind != "f":
        return
    elif "contains infinity" in text:
        with np.errstate(over="ignore"):
            wrong = np.isinf(array.astype(np.float32) if "float32" in text else array)
    else:
        wrong = np.isnan(array) & ("contains NaN" in text)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        column = f", column {place[1]}" if len(place) > 1 else ""
        few = f", not one of {known[:20]}" if known is not None else ""
        yield f"input {name!r}, row {place[0]}{column} is {array[place]!s}{few}"


def _chosen(column: Column, example: np.ndarray[Any, Any] | None) -> str | None:
    if example is None:
        return column.dtype
    given = dtype_of(example)
    # 3 in an example of JSON may stand for 3.0 where the model computes in floats.
    return column.dtype if column.dtype == "FP64" and given not in ("BYTES", "BOOL") else given


def _three(column: Column) -> np.ndarray[Any, Any]:
    values = column.values or (0.5, 1.0, 2.0)
    array = np.empty(3, dtype=object)
    array[:] = [values[index % len(values)] for index in range(3)]
    return (
        array
        if column.dtype == "BYTES"
        else array.astype(np.dtype({"BOOL": "bool", "INT64": "int64"}.get(str(column.dtype), "float64")))
    )


def _dense(result: Any) -> np.ndarray[Any, Any]:
    if hasattr(result, "toarray"):
        result = result.toarray()
    return np.asarray(result.to_numpy() if hasattr(result, "to_numpy") else result)
