"""XGBoost models in its own formats, JSON and UBJSON."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, InvalidInput, Runtime, TensorSpec, codes


class XgboostRuntime(Runtime):
    """A booster, as ``save_model`` writes it.

    Inputs: one per named column, shape [-1], where it was trained on a data frame (categories as they were: text or whole numbers);
    else ``input`` FP32 [-1, features]. NaN is missing. Outputs: ``label`` and ``probabilities`` for classifiers, ``label`` for
    multi:softmax, else ``prediction``. A model stopped early answers by its best iteration.
    """

    title = "XGBoost"
    platform = "xgboost_booster"
    suffixes = frozenset({".json", ".ubj"})
    requires = ("xgboost",)
    extra = "xgboost"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is ``.ubj``, or JSON that begins as XGBoost's does."""
        if not super().claims(path):
            return False
        with path.open("rb") as file:
            return path.suffix.lower() == ".ubj" or b'"learner"' in file.read(256)

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the booster. Raises `UnsupportedModel` if XGBoost does not take the file."""
        xgboost = self.framework("xgboost")
        try:
            self._booster = xgboost.Booster({"nthread": threads, "device": device}, model_file=str(path))
        except (xgboost.core.XGBoostError, ValueError) as error:
            raise self.unreadable(path, _sentence(error)) from error
        learner = json.loads(self._booster.save_config())["learner"]
        self._objective: str = learner["objective"]["name"]
        self._classes = int(learner["learner_model_param"].get("num_class", "0"))
        self._width = int(self._booster.num_features())
        self._names: list[str] | None = self._booster.feature_names
        self._categories = self._read_categories()
        best = self._booster.attr("best_iteration")
        self._range = (0, int(best) + 1) if best is not None else (0, 0)
        # inplace_predict, which makes no copy, does not know linear boosters.
        self._matrix: Any = xgboost.DMatrix if learner["gradient_booster"]["name"] == "gblinear" else None

    def describe(self, example: Arrays | None) -> Described:
        """Read inputs from the feature names and outputs from the objective."""
        return Described(self._inputs(), self._outputs(), True)

    def sample(self) -> Arrays | None:
        """Return rows of trained categories."""
        if self._names is None or not self._categories:
            return None
        rows: Arrays = {}
        for index, name in enumerate(self._names):
            known = self._categories.get(index)
            values = list(known)[:3] if known else [0.5, 1.0, 2.0]
            cycled = list(itertools.islice(itertools.cycle(values), 3))
            rows[name] = np.array([v.encode() if isinstance(v, str) else v for v in cycled], dtype=_numpy_of(self._dtype(index)))
        return rows

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run the booster. Raises `InvalidInput` for a category it was not trained on."""
        rows = inputs["input"] if self._names is None else self._stack(inputs)
        if self._matrix is not None:
            matrix = self._matrix(rows, feature_names=self._names, feature_types=self._booster.feature_types)
            answer = self._booster.predict(matrix, iteration_range=self._range)
        else:
            answer = self._booster.inplace_predict(rows, iteration_range=self._range, validate_features=False)
        return self._named(answer)

    def _named(self, answer: np.ndarray[Any, Any]) -> Arrays:
        if self._objective == "binary:logistic":
            return {"label": (answer > 0.5).astype(np.int64), "probabilities": np.stack((1 - answer, answer), axis=1)}
        if self._objective == "multi:softprob":
            return {"label": answer.argmax(axis=1), "probabilities": answer}
        if self._objective in ("multi:softmax", "binary:hinge"):
            return {"label": answer.astype(np.int64)}
        return {"prediction": answer}

    def _stack(self, inputs: Arrays) -> np.ndarray[Any, Any]:
        assert self._names is not None
        first = inputs[self._names[0]]
        rows = np.empty((len(first), self._width), dtype=np.float32)
        for index, name in enumerate(self._names):
            known = self._categories.get(index)
            if known is None:
                rows[:, index] = inputs[name]
                continue
            rows[:, index] = codes(name, inputs[name], known)
            if np.isnan(rows[:, index]).any():
                raise InvalidInput(f"input {name!r} has a category that the model was not trained on; it knows {list(known)[:20]}")
        return rows

    def _inputs(self) -> tuple[TensorSpec, ...]:
        if self._names is None:
            return (TensorSpec("input", "FP32", (-1, self._width)),)
        return tuple(TensorSpec(name, self._dtype(index), (-1,)) for index, name in enumerate(self._names))

    def _dtype(self, index: int) -> str:
        known = self._categories.get(index)
        if not known:
            return "FP32"
        return "BYTES" if isinstance(next(iter(known)), str) else "INT64"

    def _outputs(self) -> tuple[TensorSpec, ...] | None:
        label = TensorSpec("label", "INT64", (-1,))
        if self._objective in ("binary:logistic", "multi:softprob"):
            return (label, TensorSpec("probabilities", "FP32", (-1, max(self._classes, 2))))
        return (label,) if self._objective in ("multi:softmax", "binary:hinge") else None

    def _read_categories(self) -> dict[int, dict[object, int]]:
        """Return value -> code of each categorical feature that was trained on values, not on codes."""
        if "c" not in (self._booster.feature_types or []):
            return {}
        model = json.loads(bytes(self._booster.save_raw("json")))["learner"]["gradient_booster"]["model"]
        encoded = model.get("cats", {}).get("enc", [])
        return {
            index: {value: code for code, value in enumerate(_values(entry))}
            for index, entry in enumerate(encoded)
            if entry["values"]
        }


def _values(entry: dict[str, Any]) -> list[object]:
    offsets = entry.get("offsets")
    if not offsets:
        return list(entry["values"])
    text = bytes(value & 0xFF for value in entry["values"])
    if not text.isascii():
        raise UnsupportedModel(
            f"the categories {text.decode(errors='replace')!r} hold letters outside ASCII, and XGBoost cuts such text when it saves a "
            "model, so what they were is lost. Give the categories ASCII names, or train on their codes"
        )
    return [text[start:stop].decode() for start, stop in itertools.pairwise(offsets)]


def _numpy_of(dtype: str) -> str:
    return {"FP32": "float32", "INT64": "int64"}.get(dtype, "object")


def _sentence(error: Exception) -> str:
    # XGBoost begins with the time, and with the place in its own source.
    return re.sub(r"^\[[\d:]+\] (\S+:\d+: )?", "", str(error))
