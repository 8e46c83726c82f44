"""MLflow folders by MLflow's own loader: a data frame of numbers, a matrix, outputs by name, and a class of Python's own."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from mlflow import lightgbm, onnx, pyfunc, sklearn, xgboost
from mlflow.models import infer_signature
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from headgate.testing.runtimes import write_sample

PINNED = ["mlflow"]  # MLflow would look for them by loading the model


def _spec(name, dtype, shape, **more):
    return {"name": name, "dtype": dtype, "shape": shape, **more}


def _write(folder, name, inputs, expected, takes, gives, **more):
    answers = {"answers": more["answers"]} if more.get("answers") else {}
    signature = {"inputs": takes, "outputs": gives, "batched": True, "parameters": more.get("parameters", False), **answers}
    write_sample(folder, name, runtime="mlflow", path=name, inputs=inputs, expected=expected, signature=signature)


def _frame():
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    return wine.data[["alcohol", "malic_acid", "color_intensity"]], wine.target


def _tabular(folder):
    from lightgbm import LGBMRegressor
    from sklearn.linear_model import LogisticRegression
    from xgboost import DMatrix, train

    frame, target = _frame()
    inputs = {name: frame[name].to_numpy()[::40] for name in frame.columns}
    takes = [_spec(name, "FP64", [-1]) for name in frame.columns]
    rows = frame.iloc[::40]

    model = LogisticRegression(max_iter=500).fit(frame, target)
    sklearn.save_model(model, folder / "wine", signature=infer_signature(frame, model.predict(frame)), pip_requirements=PINNED)
    _write(folder, "wine", inputs, {"prediction": model.predict(rows)}, takes, [_spec("prediction", "INT64", [-1])])

    booster = train({"objective": "multi:softprob", "num_class": 3}, DMatrix(frame, label=target), 5)
    xgboost.save_model(booster, folder / "softprob", signature=infer_signature(frame), pip_requirements=PINNED)
    expected = {"prediction": booster.predict(DMatrix(rows))}
    _write(folder, "softprob", inputs, expected, takes, [_spec("prediction", "FP32", [-1, 3])])

    model = LGBMRegressor(n_estimators=5, verbose=-1).fit(frame, target)
    signature = infer_signature(frame, model.predict(frame))
    lightgbm.save_model(model.booster_, folder / "leaves", signature=signature, pip_requirements=PINNED)
    _write(folder, "leaves", inputs, {"prediction": model.predict(rows)}, takes, [_spec("prediction", "FP64", [-1])])


def _matrix(folder):
    from onnxruntime import InferenceSession
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    frame, target = _frame()
    matrix = frame.to_numpy().astype(np.float32)
    graph = to_onnx(LogisticRegression(max_iter=500).fit(matrix, target), matrix[:1], options={"zipmap": False})
    session = InferenceSession(graph.SerializeToString())
    rows = matrix[::40]
    label, probabilities = session.run(None, {"X": rows})
    onnx.save_model(graph, folder / "graph", signature=infer_signature(matrix), pip_requirements=PINNED)
    gives = [_spec("label", "INT64", [-1]), _spec("probabilities", "FP32", [-1, 3])]
    expected = {"label": label, "probabilities": probabilities}
    _write(folder, "graph", {"input": rows}, expected, [_spec("input", "FP32", [-1, 3])], gives, answers="columns")


WORDS = """
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Words(PythonModel):
    def predict(self, context, model_input, params=None):
        times = (params or {}).get("times", 2)
        loud = model_input["word"].str.upper() if "word" in model_input else "?"
        return pd.DataFrame({"loud": loud, "total": [sum(values) * times for values in model_input["values"]]})


set_model(Words())
"""


def _code(folder):
    takes = Schema([ColSpec(DataType.string, "word", required=False), ColSpec(Array(DataType.double), "values")])
    gives = Schema([ColSpec(DataType.string, "loud"), ColSpec(DataType.double, "total")])
    frame = pd.DataFrame({"word": ["a"], "values": [[1.0]]})
    signature = infer_signature(frame, params={"times": 2})
    signature.inputs, signature.outputs = takes, gives
    (folder / "words.py").write_text(WORDS)
    pyfunc.save_model(folder / "words", python_model=str(folder / "words.py"), signature=signature, pip_requirements=PINNED)
    inputs = {
        "word": np.array(["a", "bé", "c", "d"], dtype=object),
        "values": np.array(["[1.5, 2]", "[3.0]", "[]", "[1, 2, 3]"], dtype=object),
    }
    expected = {"loud": np.array(["A", "BÉ", "C", "D"], dtype=object), "total": np.array([7.0, 6.0, 0.0, 12.0])}
    specs = [_spec("word", "BYTES", [-1], optional=True), _spec("values", "BYTES", [-1], content="json")]
    outputs = [_spec("loud", "BYTES", [-1]), _spec("total", "FP64", [-1])]
    _write(folder, "words", inputs, expected, specs, outputs, answers="records", parameters=True)


def build(folder):
    for make in (_tabular, _matrix, _code):
        make(folder)
