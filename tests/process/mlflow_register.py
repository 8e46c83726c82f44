"""Log and register a model on a tracking server: ``python -P mlflow_register.py URI``; prints ``{"run", "model"}``."""

from __future__ import annotations

import json
import sys

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

REQUIREMENTS = ["mlflow==3.17.2", "onnxruntime==1.32.0", "scikit-learn==1.9.1"]

if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    data = load_wine(as_frame=True)
    frame = data.data[["alcohol", "malic_acid"]]
    client = mlflow.MlflowClient()
    found = {}
    for c in (1.0, 0.01):
        model = LogisticRegression(C=c, max_iter=500).fit(frame, data.target)
        signature = infer_signature(frame, model.predict(frame))
        with mlflow.start_run() as run:
            more = {"signature": signature, "input_example": frame.head(2), "pip_requirements": REQUIREMENTS}
            info = mlflow.sklearn.log_model(model, name="model", registered_model_name="wine", **more)
        found = {"run": run.info.run_id, "model": info.model_id}
    client.set_registered_model_alias("wine", "champion", "1")
    rows = frame.iloc[::60]
    loaded = mlflow.pyfunc.load_model("models:/wine@champion")
    answers = {"rows": rows.to_dict("records"), "predictions": loaded.predict(rows).tolist()}
    print(json.dumps(found | answers))
