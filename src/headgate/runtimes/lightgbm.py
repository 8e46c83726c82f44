"""LightGBM models in its own text format."""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, Runtime, TensorSpec, codes


class LightgbmRuntime(Runtime):
    """A booster, as ``save_model`` writes it.

    Inputs: one per named column, shape [-1], where it was trained with names (categories of a data frame as they were: text or whole
    numbers; one it does not know counts as missing); else ``input`` FP64 [-1, features]. Outputs: ``label`` and ``probabilities`` for
    classifiers, else ``prediction``.
    """

    title = "LightGBM"
    platform = "lightgbm_booster"
    suffixes = frozenset({".txt"})
    requires = ("lightgbm",)
    extra = "lightgbm"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is a ``.txt`` that begins as LightGBM's models do."""
        if not super().claims(path):
            return False
        with path.open("rb") as file:
            return file.read(256).replace(b"\r", b"").startswith(b"tree\nversion=")

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the booster. Raises `UnsupportedModel` if LightGBM does not take the file."""
        lightgbm = self.framework("lightgbm")
        if not self.claims(path):  # LightGBM ends the process on some files that are not its own
            raise UnsupportedModel(f"{path.name} is no LightGBM model: it does not begin with 'tree' and 'version='")
        header = _header(path)
        _check_whole(path)
        try:
            self._booster = lightgbm.Booster(model_file=str(path))
        except lightgbm.basic.LightGBMError as error:
            raise self.unreadable(path, error) from error
        self._threads = threads
        self._objective = header.get("objective", "").partition(" ")[0]
        self._classes = int(header.get("num_class", "1"))
        names = self._booster.feature_name()
        self._width = len(names)
        self._names: list[str] | None = None if all(re.fullmatch(r"Column_\d+", name) for name in names) else names
        self._categories = _categories(header.get("feature_infos", "").split(), self._booster.pandas_categorical or [])

    def describe(self, example: Arrays | None) -> Described:
        """Read inputs from the feature names and outputs from the objective."""
        if self._names is None:
            inputs: tuple[TensorSpec, ...] = (TensorSpec("input", "FP64", (-1, self._width)),)
        else:
            inputs = tuple(TensorSpec(name, self._dtype(index), (-1,)) for index, name in enumerate(self._names))
        outputs = None
        if self._objective in ("binary", "multiclass", "multiclassova"):
            outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP64", (-1, max(self._classes, 2))))
        return Described(inputs, outputs, True)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run the booster."""
        rows = inputs["input"] if self._names is None else self._stack(inputs)
        answer = self._booster.predict(rows, num_threads=self._threads)
        if self._objective == "binary":
            return {"label": (answer > 0.5).astype(np.int64), "probabilities": np.stack((1 - answer, answer), axis=1)}
        if self._objective in ("multiclass", "multiclassova"):
            return {"label": answer.argmax(axis=1), "probabilities": answer}
        return {"prediction": answer}

    def _dtype(self, index: int) -> str:
        known = self._categories.get(index)
        if not known:
            return "FP64"
        return "BYTES" if isinstance(next(iter(known)), str) else "INT64"

    def _stack(self, inputs: Arrays) -> np.ndarray[Any, Any]:
        assert self._names is not None
        rows = np.empty((len(inputs[self._names[0]]), self._width), dtype=np.float64)
        for index, name in enumerate(self._names):
            known = self._categories.get(index)
            rows[:, index] = inputs[name] if known is None else codes(name, inputs[name], known)
        return rows


def _check_whole(path: Path) -> None:
    # LightGBM does not raise on a file that is cut within a tree: it ends the process.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"\nend of trees") < 0:
            raise UnsupportedModel(f"{path.name} is cut: it has no line 'end of trees'; copy or save it again")


def _header(path: Path) -> dict[str, str]:
    """Return the ``key=value`` lines before the first tree."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = itertools.takewhile(lambda line: not line.startswith("Tree="), file)
        return {key: value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _categories(infos: list[str], recorded: list[list[object]]) -> dict[int, dict[object, int]]:
    """Return value -> code by feature. The file lists categories in the order of the columns that have some, without their names."""
    if not recorded:
        return {}
    columns = [index for index, info in enumerate(infos) if not info.startswith("[") and info != "none"]
    if len(columns) != len(recorded):
        raise UnsupportedModel(
            f"the model records {len(recorded)} lists of categories, and {len(columns)} of its columns have some, so which is whose "
            "cannot be told: drop the columns that never vary and train again"
        )
    return {index: {value: code for code, value in enumerate(values)} for index, values in zip(columns, recorded, strict=True)}
