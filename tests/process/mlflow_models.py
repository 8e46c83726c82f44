"""Make MLflow models, and write down what MLflow's own server answers: ``python -P mlflow_models.py FOLDER``, in MLflow's environment.

``FOLDER/NAME`` is a model, ``FOLDER/NAME.json`` a list of ``{"body", "predictions"}``: scoring requests, among them the one that MLflow
saved as the model's input example, and what ``mlflow.pyfunc.load_model(...).predict`` gives, as the scoring server writes it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from mlflow import onnx, pyfunc, sklearn
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server

REQUIREMENTS = ["mlflow==3.17.2", "onnxruntime==1.32.0", "scikit-learn==1.9.1"]
LOUD = """
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Loud(PythonModel):
    def predict(self, context, model_input, params=None):
        if (model_input["a"] < 0).any():
            raise RuntimeError("no negative numbers here")
        text = model_input["w"].str.upper() if "w" in model_input else "-"
        return pd.DataFrame({"total": model_input["a"] * params["times"], "loud": text})


set_model(Loud())
"""


def wine():
    """Return columns and target of the wine data."""
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    return data.data[["alcohol", "malic_acid", "color_intensity"]], data.target


def make_wine(path):
    """A classifier in a skops file, on a data frame."""
    from sklearn.linear_model import LogisticRegression

    frame, target = wine()
    model = LogisticRegression(max_iter=500).fit(frame, target)
    signature = infer_signature(frame, model.predict(frame))
    sklearn.save_model(model, path, signature=signature, input_example=frame.head(2), pip_requirements=REQUIREMENTS)
    rows = frame.iloc[::60]
    yield {"dataframe_records": rows.to_dict("records")}
    yield {
        "dataframe_split": {"columns": [*rows.columns[::-1], "unused"], "data": [[*row[::-1], 0] for row in rows.values.tolist()]}
    }
    yield {"inputs": rows.to_dict("list")}
    yield {"instances": rows.to_dict("records")}


def make_matrix(path):
    """An ONNX graph of a matrix, whose answer has two names."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    frame, target = wine()
    matrix = frame.to_numpy().astype(np.float32)
    graph = to_onnx(LogisticRegression(max_iter=500).fit(matrix, target), matrix[:1], options={"zipmap": False})
    onnx.save_model(graph, path, signature=infer_signature(matrix), input_example=matrix[:2], pip_requirements=REQUIREMENTS)
    yield {"inputs": matrix[::60].tolist()}
    yield {"instances": matrix[::60].tolist()}


def make_pickled(path):
    """Probabilities of a pickled model, without names of columns."""
    from sklearn.linear_model import LogisticRegression

    frame, target = wine()
    matrix = frame.to_numpy()
    model = LogisticRegression(max_iter=500).fit(matrix, target)
    more = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": "predict_proba", "pip_requirements": REQUIREMENTS}
    sklearn.save_model(model, path, signature=infer_signature(matrix), input_example=matrix[:2], **more)
    yield {"inputs": matrix[::60].tolist()}


def make_loud(path):
    """A class of Python's own: a data frame in and out, an optional column, a parameter."""
    path.with_suffix(".py").write_text(LOUD)
    frame = pd.DataFrame({"a": [1.0, 2.5], "w": ["x", "yé"]})
    signature = infer_signature(frame, pd.DataFrame({"total": [1.0], "loud": ["X"]}), params={"times": 2.0})
    signature.inputs.inputs[1]._required = False
    code = str(path.with_suffix(".py"))
    pyfunc.save_model(
        path, python_model=code, signature=signature, input_example=(frame, {"times": 2.0}), pip_requirements=REQUIREMENTS
    )
    yield {"dataframe_records": [{"a": 3, "w": "z"}, {"a": 0.5, "w": ""}], "params": {"times": 3.0}}
    yield {"dataframe_split": {"columns": ["a"], "data": [[1.5]]}}


def answered(model, body):
    """Return what the scoring server answers to ``body``."""
    text = json.dumps(body)
    response = scoring_server.invocations(text, "application/json", model, model.metadata.get_input_schema())
    assert response.status == 200, response.response
    return json.loads(response.response)["predictions"]


def main(folder):
    """Make them all."""
    for name, make in {"wine": make_wine, "matrix": make_matrix, "pickled": make_pickled, "loud": make_loud}.items():
        path = folder / name
        bodies = list(make(path))
        model = pyfunc.load_model(str(path))
        bodies.append(json.loads((path / "serving_input_example.json").read_text()))
        found = [{"body": body, "predictions": answered(model, body)} for body in bodies]
        first = json.loads((path / "serving_input_example.json").read_text())
        direct = model.predict(model.input_example, params=first.get("params"))
        output = io.StringIO()
        scoring_server.predictions_to_json(direct, output)
        assert json.loads(output.getvalue())["predictions"] == found[-1]["predictions"]
        path.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
