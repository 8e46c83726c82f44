"""A classifier from a matrix, and one of several classes from a frame with categories."""

from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

from headgate.testing.runtimes import write_sample


def _write(folder, name, inputs, expected, takes, gives):
    def specs(named):
        return [{"name": key, "dtype": dtype, "shape": shape} for key, dtype, shape in named]

    signature = {"inputs": specs(takes), "outputs": specs(gives), "batched": True, "parameters": False}
    write_sample(folder, name, runtime="lightgbm", path=f"{name}.txt", inputs=inputs, expected=expected, signature=signature)


def _matrix(folder: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(x, y)
    model.booster_.save_model(folder / "cancer.txt")
    gives = [("label", "INT64", [-1]), ("probabilities", "FP64", [-1, 2])]
    expected = {"label": model.predict(x[:10]), "probabilities": model.predict_proba(x[:10])}
    _write(folder, "cancer", {"input": x[:10]}, expected, [("input", "FP64", [-1, 30])], gives)
    x, y = load_diabetes(return_X_y=True)
    regressor = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(x, y)
    regressor.booster_.save_model(folder / "diabetes.txt")
    expected, takes = {"prediction": regressor.predict(x[:10])}, [("input", "FP64", [-1, 10])]
    _write(folder, "diabetes", {"input": x[:10]}, expected, takes, [("prediction", "FP64", [-1])])


def _categories(folder: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "income": random.normal(50, 10, 600),
            "city": pd.Categorical(random.choice(["Oslo", "Zürich", "Lima"], 600)),
            "rooms": pd.Categorical(random.choice([2, 3, 5], 600)),
        }
    )
    score = table["income"] / 10 + 2 * (table["city"] == "Oslo") + table["rooms"].astype(int)
    y = np.digitize(score, [7.5, 9.5])
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(table, y)
    model.booster_.save_model(folder / "segment.txt")
    rows = table.iloc[:9]
    kinds = {"income": "float64", "city": object, "rooms": "int64"}
    takes = [("income", "FP64", [-1]), ("city", "BYTES", [-1]), ("rooms", "INT64", [-1])]
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}
    gives = [("label", "INT64", [-1]), ("probabilities", "FP64", [-1, 3])]
    _write(folder, "segment", {name: rows[name].to_numpy(dtype=kind) for name, kind in kinds.items()}, expected, takes, gives)


def build(folder: Path) -> None:
    _matrix(folder)
    _categories(folder)
