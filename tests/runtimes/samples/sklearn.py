"""Classifiers, regressors, clusters, text and mixed tables, trained on the data that scikit-learn ships."""

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headgate.testing.runtimes import write_sample


def _signature(inputs, outputs):
    def specs(named):
        return [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in named]

    return {"inputs": specs(inputs), "outputs": specs(outputs), "batched": True, "parameters": False}


def _write(folder, name, path, inputs, expected, signature, **rest):
    write_sample(
        folder, name, runtime="sklearn", path=path, inputs=inputs, expected=expected, signature=_signature(*signature), **rest
    )


def _classifier(folder: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=60, random_state=0)).fit(x, y)
    skops.io.dump(model, folder / "mlp.skops")
    x = x[:9]
    expected = {"label": model.predict(x), "probabilities": model.predict_proba(x)}
    outputs = [("label", "INT64", [-1]), ("probabilities", "FP64", [-1, 2])]
    _write(folder, "mlp", "mlp.skops", {"input": x}, expected, ([("input", "FP64", [-1, 30])], outputs))


def _forest(folder: Path) -> None:
    data = load_iris(as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    model = RandomForestClassifier(20, random_state=0, n_jobs=-1).fit(data.data, names[data.target])
    joblib.dump(model, folder / "forest.joblib")
    rows = data.data.iloc[::17]
    expected = {"label": model.predict(rows).astype(object), "probabilities": model.predict_proba(rows)}
    inputs = {name: rows[name].to_numpy() for name in rows}
    outputs = [("label", "BYTES", [-1]), ("probabilities", "FP64", [-1, 3])]
    _write(folder, "forest", "forest.joblib", inputs, expected, ([(name, "FP64", [-1]) for name in rows], outputs))


def _regressor(folder: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    model = HistGradientBoostingRegressor(max_iter=20).fit(x, y)
    skops.io.dump(model, folder / "boosting.skops")
    signature = ([("input", "FP64", [-1, 10])], [("prediction", "FP64", [-1])])
    _write(folder, "boosting", "boosting.skops", {"input": x[:8]}, {"prediction": model.predict(x[:8])}, signature)


def _mixed(folder: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 90, 400).astype(float),
            "city": random.choice(["Oslo", "Zürich", "São Paulo"], 400),
            "class": random.integers(1, 4, 400),
            "fare": random.gamma(2.0, 20.0, 400),
        }
    )
    y = (table["age"] / 90 + (table["city"] == "Oslo") - table["class"] / 3 + random.normal(0, 0.2, 400) > 0.3).astype(int)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("numbers", numbers, ["age", "fare"]), ("words", OneHotEncoder(), ["city", "class"])])
    model = make_pipeline(columns, LogisticRegression()).fit(table, y)
    skops.io.dump(model, folder / "mixed.skops")
    rows = table.iloc[:10].copy()
    rows.loc[0, "age"] = np.nan
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}
    inputs = {name: rows[name].to_numpy(dtype=object if name == "city" else None) for name in rows}
    takes = [("age", "FP64", [-1]), ("city", "BYTES", [-1]), ("class", "INT64", [-1]), ("fare", "FP64", [-1])]
    outputs = [("label", "INT64", [-1]), ("probabilities", "FP64", [-1, 2])]
    _write(folder, "mixed", "mixed.skops", inputs, expected, (takes, outputs))


def _text(folder: Path) -> None:
    good = ["a wonderful film", "great acting and a great story", "I loved it", "simply wonderful"]
    bad = ["a terrible film", "awful acting, no story", "I hated it", "simply awful"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0)).fit(good + bad, ["good"] * 4 + ["bad"] * 4)
    skops.io.dump(model, folder / "text.skops")
    texts = np.array(["great film", "I hated the story", "awful", "loved it, wonderful"], dtype=object)
    expected = {"label": model.predict(texts).astype(object), "probabilities": model.predict_proba(texts)}
    outputs = [("label", "BYTES", [-1]), ("probabilities", "FP64", [-1, 2])]
    _write(folder, "text", "text.skops", {"input": texts}, expected, ([("input", "BYTES", [-1])], outputs))


def _others(folder: Path) -> None:
    x = load_iris().data
    clusters, components = KMeans(3, n_init=2, random_state=0).fit(x), PCA(2).fit(x)
    skops.io.dump(clusters, folder / "clusters.skops")
    joblib.dump(components, folder / "components.pkl")
    takes, rows = [("input", "FP64", [-1, 4])], x[::20]
    _write(
        folder,
        "clusters",
        "clusters.skops",
        {"input": rows},
        {"label": clusters.predict(rows)},
        (takes, [("label", "INT32", [-1])]),
    )
    signature = (takes, [("output", "FP64", [-1, 2])])
    _write(folder, "components", "components.pkl", {"input": rows}, {"output": components.transform(rows)}, signature)


def build(folder: Path) -> None:
    for make in (_classifier, _forest, _regressor, _mixed, _text, _others):
        make(folder)
