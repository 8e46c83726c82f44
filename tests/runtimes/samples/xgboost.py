"""Boosters from a matrix, from a frame with categories, a ranker of trees stopped early, and a linear one."""

from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from headgate.testing.runtimes import write_sample


def _write(folder, name, path, inputs, expected, takes, gives):
    def specs(named):
        return [{"name": key, "dtype": dtype, "shape": shape} for key, dtype, shape in named]

    signature = {"inputs": specs(takes), "outputs": specs(gives), "batched": True, "parameters": False}
    write_sample(folder, name, runtime="xgboost", path=path, inputs=inputs, expected=expected, signature=signature)


def _classifiers(folder: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(x, y)
    model.save_model(folder / "cancer.json")
    rows = x[:10].astype(np.float32)
    rows[0, 3] = np.nan
    gives = [("label", "INT64", [-1]), ("probabilities", "FP32", [-1, 2])]
    expected = {"label": model.predict(rows).astype(np.int64), "probabilities": model.predict_proba(rows)}
    _write(folder, "cancer", "cancer.json", {"input": rows}, expected, [("input", "FP32", [-1, 30])], gives)
    data = load_iris(as_frame=True)
    model = xgboost.XGBClassifier(n_estimators=10, max_depth=2).fit(data.data, data.target)
    model.save_model(folder / "iris.ubj")
    table = data.data.iloc[::20].astype(np.float32)
    expected = {"label": model.predict(table).astype(np.int64), "probabilities": model.predict_proba(table)}
    gives = [("label", "INT64", [-1]), ("probabilities", "FP32", [-1, 3])]
    takes = [(name, "FP32", [-1]) for name in table]
    _write(folder, "iris", "iris.ubj", {name: table[name].to_numpy() for name in table}, expected, takes, gives)


def _categories(folder: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "income": random.normal(50, 10, 500).astype(np.float32),
            "city": pd.Categorical(random.choice(["Oslo", "Zurich", "Lima"], 500)),
            "rooms": pd.Categorical(random.choice([2, 3, 5], 500)),
        }
    )
    y = table["income"] + 20 * (table["city"] == "Oslo") + 5 * table["rooms"].astype(int) + random.normal(0, 1, 500)
    model = xgboost.XGBRegressor(n_estimators=20, enable_categorical=True).fit(table, y)
    model.save_model(folder / "rent.ubj")
    umlaut = table.assign(city=table["city"].cat.rename_categories({"Zurich": "Zürich"}))
    xgboost.XGBRegressor(n_estimators=2, enable_categorical=True).fit(umlaut, y).save_model(folder / "umlaut.ubj")
    rows = table.iloc[:8]
    kinds = {"income": "float32", "city": object, "rooms": "int64"}
    takes = [("income", "FP32", [-1]), ("city", "BYTES", [-1]), ("rooms", "INT64", [-1])]
    inputs = {name: rows[name].to_numpy(dtype=kind) for name, kind in kinds.items()}
    _write(folder, "rent", "rent.ubj", inputs, {"prediction": model.predict(rows)}, takes, [("prediction", "FP32", [-1])])


def _regressors(folder: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    takes, gives, rows = [("input", "FP32", [-1, 10])], [("prediction", "FP32", [-1])], x[:8].astype(np.float32)
    model = xgboost.XGBRegressor(n_estimators=200, learning_rate=0.5, early_stopping_rounds=3)
    model.fit(x[:300], y[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    assert model.best_iteration < 190
    model.save_model(folder / "stopped.json")
    _write(folder, "stopped", "stopped.json", {"input": rows}, {"prediction": model.predict(rows)}, takes, gives)
    linear = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(x, y), 20)
    linear.save_model(folder / "linear.json")
    expected = {"prediction": linear.predict(xgboost.DMatrix(rows))}
    _write(folder, "linear", "linear.json", {"input": rows}, expected, takes, gives)


def build(folder: Path) -> None:
    for make in (_classifiers, _categories, _regressors):
        make(folder)
