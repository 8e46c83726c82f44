"""Make a Keras and a PyTorch model by MLflow, and write down what it answers: ``python -P mlflow_deep.py FOLDER``.

As ``mlflow_models.py``, in an environment that has the frameworks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
from mlflow import pyfunc
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server

ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def make_keras(path):
    """A small network in a .keras file."""
    import keras
    from mlflow import tensorflow

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
    signature = infer_signature(ROWS, model.predict(ROWS, verbose=0))
    tensorflow.save_model(model, path, signature=signature, input_example=ROWS[:2], pip_requirements=["tensorflow-cpu==2.21.0"])


def make_torch(path):
    """An exported program."""
    import torch
    from mlflow import pytorch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    signature = infer_signature(ROWS, model(torch.from_numpy(ROWS)).detach().numpy())
    more = {"serialization_format": "pt2", "pip_requirements": ["torch==2.13.0"]}
    pytorch.save_model(model, path, signature=signature, input_example=ROWS[:2], **more)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, make in {"keras": make_keras, "torch": make_torch}.items():
        make(folder / name)
        model = pyfunc.load_model(str(folder / name))
        body = {"inputs": ROWS.tolist()}
        answer = scoring_server.invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
        assert answer.status == 200, answer.response
        found = [{"body": body, "predictions": json.loads(answer.response)["predictions"]}]
        (folder / f"{name}.json").write_text(json.dumps(found))
