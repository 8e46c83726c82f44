"""What the runtime for MLflow does with models of every kind: run in MLflow's environment as ``python -P mlflow_checks.py FOLDER``.

Every function ``check_*`` is one promise, told in its docstring. Prints one JSON object: the outcome of each, by name.
"""

# ruff: noqa: E402  (what is imported below is only there after what stands above)
from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from build_samples import PACKAGE, _load

_load("headgate", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])

import numpy as np
import pandas as pd
from mlflow import pyfunc, sklearn
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, DataType, Object, Property, Schema

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import InvalidInput, NeedsExample
from headgate.runtimes.mlflow import MlflowRuntime
from headgate.serving.describe import describe

FOLDER = Path(sys.argv[1])
HINTED = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Hinted(PythonModel):
    def predict(self, model_input: list[str], params=None) -> list[str]:
        return [text[::-1] for text in model_input]


set_model(Hinted())
"""
CODE = """
import datetime
import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Code(PythonModel):
    def predict(self, context, model_input, params=None):
        frame, params = model_input, params or {{}}
        return {body}


set_model(Code())
"""


def saved(name, body, signature=None, example=None):
    """Save a model whose predict returns ``body``, and return its folder."""
    (FOLDER / f"{name}.py").write_text(CODE.format(body=body))
    path = FOLDER / name
    more = {"input_example": example} if example is not None else {}
    pyfunc.save_model(path, python_model=str(FOLDER / f"{name}.py"), signature=signature, pip_requirements=["mlflow"], **more)
    return path


def loaded(path):
    """Return the runtime with the model in ``path``."""
    runtime = MlflowRuntime()
    runtime.load(path, attribute="", device="cpu", threads=1)
    return runtime


def described(path, example=None):
    """Return the signature that packaging finds."""
    config = {"path": str(path), "runtime": "mlflow"}
    if example is not None:
        config["example"] = str(path.with_suffix(".json"))
        Path(config["example"]).write_text(json.dumps(example))
    return describe(config)["signature"]


def raised(kind, call, *arguments):
    """Return the text of the error that a call must end in."""
    try:
        call(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def words(*texts):
    """Return a BYTES tensor as the wire gives it."""
    return np.array([text.encode() for text in texts], dtype=object)


def check_a_string_column_is_text_where_the_signature_says_so():
    """The same answers, declared as text and not: text, and JSON documents."""
    takes = Schema([ColSpec(DataType.string, "w")])
    for name, outputs, content in (("said", Schema([ColSpec(DataType.string, "w")]), None), ("unsaid", None, "json")):
        signature = infer_signature(pd.DataFrame({"w": ["a"]}))
        signature.inputs, signature.outputs = takes, outputs
        path = saved(name, "frame.assign(w=frame['w'].astype(object))", signature)
        (output,) = described(path)["outputs"]
        assert output.get("content") == content, output
        answer = loaded(path).predict({"w": words("a", "b")}, {})["w"].tolist()
        assert answer == (["a", "b"] if content is None else [b'"a"', b'"b"']), answer


def check_what_a_dict_is_depends_on_what_it_holds():
    """Arrays are outputs by name, in columns; anything else is one JSON document without a batch axis."""
    signature = infer_signature(pd.DataFrame({"a": [1.0]}))
    found = described(saved("arrays", "{'x': frame['a'].to_numpy() * 2, 'y': np.ones((len(frame), 2))}", signature))
    assert (found["answers"], found["batched"]) == ("columns", True), found
    assert [(output["name"], output["shape"]) for output in found["outputs"]] == [("x", [-1]), ("y", [-1, 2])], found
    path = saved("document", "{'sum': float(frame['a'].sum()), 'when': datetime.date(2024, 5, 31)}", signature)
    found = described(path)
    assert not found["batched"]
    assert "answers" not in found
    assert found["outputs"] == [{"name": "prediction", "dtype": "BYTES", "shape": [], "content": "json"}], found
    answer = loaded(path).predict({"a": np.array([1.0, 2.0])}, {})["prediction"]
    assert json.loads(answer[()]) == {"sum": 3.0, "when": "2024-05-31"}


def check_a_series_is_a_frame_of_one_column():
    """As MLflow's own server writes it: records with the series' name, or 0."""
    signature = infer_signature(pd.DataFrame({"a": [1.0]}))
    found = described(saved("series", "frame['a'] * 2", signature))
    assert (found["answers"], [output["name"] for output in found["outputs"]]) == ("records", ["a"]), found
    found = described(saved("nameless", "pd.Series(frame['a'].to_numpy())", signature))
    assert [output["name"] for output in found["outputs"]] == ["0"], found


def check_a_list_has_the_type_that_the_signature_declares():
    """Integers where doubles are declared become doubles; without a declaration a list is JSON, for its values may differ."""
    frame = pd.DataFrame({"a": [1.0]})
    declared = saved("doubles", "[int(value) for value in frame['a']]", infer_signature(frame, np.array([0.5])))
    answer = loaded(declared).predict({"a": np.array([1.0, 2.0])}, {})["prediction"]
    assert (answer.dtype, answer.tolist()) == (np.float64, [1.0, 2.0])
    plain = loaded(saved("plain", "[int(value) for value in frame['a']]", infer_signature(frame)))
    assert plain.predict({"a": np.array([1.0, 2.0])}, {})["prediction"].tolist() == [b"1", b"2"]


def check_rows_of_different_lengths_are_json():
    """No tensor could hold them."""
    path = saved("ragged", "[list(range(int(value))) for value in frame['a']]", infer_signature(pd.DataFrame({"a": [1.0]})))
    answer = loaded(path).predict({"a": np.array([1.0, 3.0])}, {})["prediction"].tolist()
    assert [json.loads(row) for row in answer] == [[0], [0, 1, 2]]


def check_dates_and_objects_reach_the_model_as_what_they_are():
    """A datetime column is text in ISO form; an object column JSON, whose whole numbers may stand for doubles."""
    signature = infer_signature(pd.DataFrame({"t": [pd.Timestamp("2024-01-01")]}))
    ask = Object([Property("n", DataType.double), Property("of", DataType.string, required=False)])
    signature.inputs = Schema([ColSpec(DataType.datetime, "t"), ColSpec(ask, "q")])
    path = saved("dates", "(frame['t'].dt.year + [q['n'] for q in frame['q']]).to_numpy()", signature)
    runtime = loaded(path)
    takes = runtime.describe(None).inputs
    assert [(info.dtype, info.shape, info.content) for info in takes] == [("BYTES", (-1,), ""), ("BYTES", (-1,), "json")]
    answer = runtime.predict({"t": words("2024-05-31", "2025-05-31T12:00:00"), "q": words('{"n": 1}', '{"n": 2.5, "of": "x"}')}, {})
    assert answer["prediction"].tolist() == [2025.0, 2027.5]
    assert "input 't' takes dates" in raised(InvalidInput, runtime.predict, {"t": words("soon"), "q": words('{"n": 1}')}, {})
    assert "n" in raised(InvalidInput, runtime.predict, {"t": words("2024-05-31"), "q": words('{"of": "x"}')}, {})


def check_parameters_are_those_of_the_signature():
    """They have their defaults, are checked by MLflow, and an unknown one is refused with the likely spelling."""
    signature = infer_signature(pd.DataFrame({"a": [1.0]}), np.array([1.0]), params={"times": 2})
    runtime = loaded(saved("params", "(frame['a'] * params['times']).to_numpy()", signature))
    assert runtime.describe(None).parameters
    given = {"a": np.array([1.0, 2.0])}
    assert runtime.predict(given, {})["prediction"].tolist() == [2.0, 4.0]
    assert runtime.predict(given, {"times": 3})["prediction"].tolist() == [3.0, 6.0]
    assert "'time'; did you mean 'times'?" in raised(InvalidInput, runtime.predict, given, {"time": 3})
    assert "times" in raised(InvalidInput, runtime.predict, given, {"times": "many"})


def check_without_a_signature_the_example_says_what_it_takes():
    """Columns of a frame, or an array; and with neither there is a refusal that says so."""
    frames = saved("frames", "(frame['a'] + frame['b'].str.len()).to_numpy()")
    assert "without a signature and without an input example" in raised(NeedsExample, loaded(frames).describe, None)
    found = described(frames, [{"a": 1.5, "b": "xy"}, {"a": 2, "b": "z"}])
    assert [(info["name"], info["dtype"], info["shape"]) for info in found["inputs"]] == [("a", "FP64", [-1]), ("b", "BYTES", [-1])]
    found = described(saved("arrays_too", "frame.sum(axis=1)"), [[1.5, 2], [3, 4]])
    assert [(info["name"], info["shape"]) for info in found["inputs"]] == [("input", [-1, 2])], found


def check_a_type_hint_is_a_signature_too():
    """A model whose predict is hinted gets a list."""
    (FOLDER / "hinted.py").write_text(HINTED)
    pyfunc.save_model(FOLDER / "hinted", python_model=str(FOLDER / "hinted.py"), pip_requirements=["mlflow"])
    runtime = loaded(FOLDER / "hinted")
    assert [(info.name, info.dtype) for info in runtime.describe(None).inputs] == [("input", "BYTES")]
    assert runtime.predict({"input": words("ab", "cd")}, {})["prediction"].tolist() == ["ba", "dc"]


def check_what_scikit_learn_complains_about_is_the_input():
    """A missing number is a 400, not a 500; a ValueError of somebody's own code is not."""
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, 1.0]})
    model = LinearRegression().fit(frame, [1.0, 2.0])
    sklearn.save_model(model, FOLDER / "linear", signature=infer_signature(frame), pip_requirements=["mlflow"])
    runtime = loaded(FOLDER / "linear")
    assert runtime.pure
    assert "NaN" in raised(InvalidInput, runtime.predict, {"a": np.array([np.nan]), "b": np.array([1.0])}, {})
    own = loaded(saved("own", "int('x')", infer_signature(frame)))
    assert not own.pure
    assert "invalid literal" in raised(ValueError, own.predict, {"a": np.array([1.0]), "b": np.array([1.0])}, {})


def check_a_device_is_for_pytorch():
    """Other flavours choose for themselves, so the setting is refused, not ignored."""
    runtime = MlflowRuntime()
    path = saved("device", "frame", infer_signature(pd.DataFrame({"a": [1.0]})))
    load = lambda: runtime.load(path, attribute="", device="cuda:0", threads=1)  # noqa: E731
    assert "device cuda:0: MLflow chooses the device" in raised(UnsupportedModel, load)


def check_a_pickle_is_not_loaded_behind_our_back():
    """Without a pickle that was trusted, MLflow is told to unpickle nothing: a folder that hides one is not loaded."""

    class Local(pyfunc.PythonModel):
        def predict(self, context, model_input):
            return model_input

    pyfunc.save_model(FOLDER / "pickled", python_model=Local(), pip_requirements=["mlflow"])
    assert MlflowRuntime.runs_code(FOLDER / "pickled")
    assert "python_model.pkl is a pickle" in MlflowRuntime.why_trust(FOLDER / "pickled")
    loaded(FOLDER / "pickled")
    hidden = FOLDER / "pickled" / "python_model.txt"
    (FOLDER / "pickled" / "python_model.pkl").rename(hidden)
    hidden.write_bytes(b"\x00" + hidden.read_bytes())
    config = (FOLDER / "pickled" / "MLmodel").read_text()
    (FOLDER / "pickled" / "MLmodel").write_text(config.replace("python_model.pkl", "python_model.txt"))
    assert not MlflowRuntime.runs_code(FOLDER / "pickled")
    assert "DESERIALIZATION" in raised(Exception, loaded, FOLDER / "pickled")


def check_nothing_is_written_into_the_folder():
    """Packages are read-only: loading a model and asking it leaves no file behind."""
    path = saved("clean", "frame['a'].to_numpy()", infer_signature(pd.DataFrame({"a": [1.0]}), np.array([1.0])))
    before = sorted(path.rglob("*"))
    loaded(path).predict({"a": np.array([1.0])}, {})
    assert [file for file in sorted(path.rglob("*")) if file not in before and "__pycache__" not in file.parts] == []


CHECKS = {name: value for name, value in globals().items() if name.startswith("check_")}


if __name__ == "__main__":
    answer = os.dup(1)
    os.dup2(2, 1)
    outcomes = {}
    for name, check in CHECKS.items():
        try:
            check()
            outcomes[name] = "ok"
        except Exception:
            outcomes[name] = traceback.format_exc()
    os.write(answer, json.dumps(outcomes).encode() + b"\n")
    sys.stderr.flush()
    os._exit(0)
