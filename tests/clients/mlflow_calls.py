"""What MLflow's own scoring client does with a server: run in its own environment as ``python mlflow_calls.py HOST:PORT MODEL``.

Every function ``check_*`` is one promise, told in its docstring; it raises if the promise is broken. Those named after a model are
run where that one is the default deployment. Beside Headgate, MLflow's own scoring server is started with a model that does the same,
and must give the same answers to the same bodies. Prints one JSON object: the outcome of each check, by name.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import tempfile
import threading
import time
import traceback

import mlflow.pyfunc
import numpy as np
import pandas as pd
import requests
import uvicorn
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.types import ColSpec, Schema, TensorSpec

PLACE, MODEL = sys.argv[1:3]
CLIENT = ScoringServerClient(*PLACE.split(":"))
PEOPLE = pd.DataFrame({"age": [36, 4], "height": [1.6, 1.0], "name": ["Ada", "Bob"]}, index=[7, 9])
ROWS = [[36, 1.6, "Ada"], [4, 1.0, "Bob"]]
RECORDS = PEOPLE.to_dict(orient="records")
EXPECTED = [{"score": 37.6, "label": "ADA"}, {"score": 5.0, "label": "BOB"}]
MATRIX = np.arange(8, dtype=np.float32).reshape(2, 4)


class People(mlflow.pyfunc.PythonModel):
    """As the model of the same name that Headgate serves."""

    def predict(self, context, model_input, params=None):
        vip = model_input["vip"].fillna(False).astype(float) if "vip" in model_input else 0.0
        score = model_input["age"] + model_input["height"] + 1000.0 * vip
        return pd.DataFrame({"score": score, "label": model_input["name"].str.upper()})


class Flower(mlflow.pyfunc.PythonModel):
    """As the model of the same name."""

    def predict(self, context, model_input, params=None):
        return np.asarray(model_input, dtype="float64").sum(axis=1)


class Blob(mlflow.pyfunc.PythonModel):
    """As the model of the same name."""

    def predict(self, context, model_input, params=None):
        return [base64.b64encode(item[::-1]).decode() for item in model_input["data"]]


MODELS = {
    "people": (
        People(),
        Schema(
            [
                ColSpec("long", "age"),
                ColSpec("double", "height"),
                ColSpec("string", "name"),
                ColSpec("boolean", "vip", required=False),
            ]
        ),
    ),
    "flower": (Flower(), Schema([TensorSpec(np.dtype("float32"), (-1, 4))])),
    "blob": (Blob(), Schema([ColSpec("binary", "data")])),
}


def own_server():
    """Start MLflow's scoring server with the model and return its URL."""
    model, schema = MODELS[MODEL]
    folder = f"{tempfile.mkdtemp()}/model"
    mlflow.pyfunc.save_model(folder, python_model=model, signature=ModelSignature(inputs=schema), pip_requirements=[])
    listener = socket.create_server(("127.0.0.1", 0))
    app = scoring_server.init(mlflow.pyfunc.load_model(folder))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def both(body, media="application/json"):
    """Send the same body to Headgate and to MLflow; return status and content of both."""
    data = body if isinstance(body, str) else json.dumps(body)
    answers = []
    for url in (f"http://{PLACE}", OWN):
        answer = requests.post(f"{url}/invocations", data=data.encode(), headers={"Content-Type": media}, timeout=30)
        answers.append((answer.status_code, answer.text))
    return answers


def same(*bodies, media="application/json"):
    """Both give the same predictions."""
    for body in bodies:
        (status, ours), (own_status, theirs) = both(body, media)
        assert (status, own_status) == (200, 200), (body, status, ours, own_status, theirs)
        np.testing.assert_equal(json.loads(ours), json.loads(theirs), str(body))


def same_refusal(code, *bodies, media="application/json"):
    """Both refuse it with 400 and MLflow's word for why."""
    for body in bodies:
        (status, ours), (own_status, theirs) = both(body, media)
        assert (status, own_status) == (400, 400), (body, status, ours, own_status, theirs)
        assert json.loads(ours)["error_code"] == json.loads(theirs)["error_code"] == code, (body, ours, theirs)


# ---- the client


def check_people_the_server_is_ready():
    """`wait_server_ready`, `ping` and `get_version` find what they look for."""
    CLIENT.wait_server_ready(timeout=10)
    CLIENT.ping()
    assert CLIENT.get_version()


def check_people_a_data_frame():
    """`invoke` with a data frame gives predictions that become one again, whatever its index and the order of its columns."""
    for frame in (PEOPLE, PEOPLE[["name", "age", "height"]]):
        found = CLIENT.invoke(frame)
        assert found["predictions"] == EXPECTED
        assert found.get_predictions().to_dict(orient="records") == EXPECTED


def check_people_params():
    """`params` go with the data; a model that takes none computes all the same."""
    assert CLIENT.invoke(PEOPLE, params={"top": 3})["predictions"] == EXPECTED


def check_people_errors():
    """What the server refuses is an exception of the client that carries its text."""
    said = ""
    try:
        CLIENT.invoke(PEOPLE.drop(columns="age"))
    except Exception as error:
        said = str(error)
    assert "error code 400" in said, said
    assert "Model is missing inputs ['age']" in said, said


def check_flower_an_array():
    """`invoke` with an array gives predictions that become one."""
    found = CLIENT.invoke(MATRIX)
    assert found.get_predictions("ndarray").tolist() == MATRIX.sum(axis=1).tolist()


# ---- the same answers as MLflow's own server


def check_people_same_frames():
    """Both forms of data frames, with an index, with more columns than the model takes, with and without the optional one."""
    split = {"columns": ["age", "height", "name"], "data": ROWS}
    same(
        {"dataframe_split": split},
        {"dataframe_split": {**split, "index": [3, 4]}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": [{**record, "id": 7} for record in RECORDS]},
        {"dataframe_records": [{**record, "vip": True} for record in RECORDS]},
        {"dataframe_records": [{**record, "height": 2} for record in RECORDS]},
        {"dataframe_records": RECORDS, "params": {"a": 1}},
        {"dataframe_records": RECORDS, "other": 1},
    )


def check_people_same_instances():
    """`instances` as records; `inputs` as columns, as a record, and as records."""
    columns = {name: [record[name] for record in RECORDS] for name in RECORDS[0]}
    same({"instances": RECORDS}, {"inputs": columns}, {"inputs": RECORDS[0]}, {"inputs": RECORDS})


def check_people_same_csv():
    """CSV as pandas writes it, with and without its index."""
    same(PEOPLE.to_csv(index=False), PEOPLE.to_csv(), 'age,height,name\n3,1.5,"a, ""b"""\n', media="text/csv")


def check_people_same_refusals():
    """Bodies that cannot be read are BAD_REQUEST; data unlike the signature too, or INVALID_PARAMETER_VALUE."""
    same_refusal(
        "BAD_REQUEST",
        "{",
        "[]",
        "7",
        {},
        {"dataframe_records": RECORDS, "inputs": {}},
        {"dataframe_records": {"age": 1}},
        {"dataframe_split": RECORDS},
        {"dataframe_split": {"columns": ["age"]}},
        {"dataframe_split": {"columns": ["age"], "data": [[1]], "more": 1}},
    )
    same_refusal("BAD_REQUEST", "", media="text/csv")


def check_flower_same_tensors():
    """A tensor as `inputs` and `instances`, and as a data frame of its columns."""
    frame = pd.DataFrame(MATRIX, columns=list("abcd"))
    same(
        {"inputs": MATRIX.tolist()},
        {"instances": MATRIX.tolist()},
        {"dataframe_split": frame.to_dict(orient="split")},
        {"dataframe_records": frame.to_dict(orient="records")},
    )


def check_flower_same_nan():
    """NaN and Infinity as bare words both ways."""
    same('{"inputs": [[NaN, 0, 0, 0], [Infinity, 0, 0, 0]]}', '{"instances": [[-Infinity, 0, 0, 0]]}')


def check_flower_same_refusals():
    """A tensor of another shape is refused by both."""
    same_refusal("INVALID_PARAMETER_VALUE", {"inputs": [[1, 2, 3]]})


def check_blob_same_bytes():
    """A binary column is base64, as MLflow writes it (with line breaks) and without them."""
    data = bytes(range(256))
    whole, broken = base64.b64encode(data).decode(), base64.encodebytes(data).decode()
    same(*({"dataframe_records": [{"data": text}]} for text in (whole, broken)))
    same({"dataframe_split": {"columns": ["data"], "data": [[whole], [broken]]}})


def main():
    """Run every check of this model."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith(f"check_{MODEL}_"):
            try:
                check()
                outcomes[name] = "ok"
            except Exception:
                outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    OWN = own_server()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            requests.get(f"{OWN}/ping", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.05)
    main()
