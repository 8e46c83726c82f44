"""Models converted from scikit-learn (with a mixed table and with maps of probabilities), and graphs built by hand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headgate.testing.runtimes import write_sample


def _spec(name, dtype, shape, **more):
    return {"name": name, "dtype": dtype, "shape": shape, **more}


def _write(folder, name, inputs, expected, takes, gives, batched=True, **rest):
    signature = {"inputs": takes, "outputs": gives, "batched": batched, "parameters": False}
    write_sample(folder, name, runtime="onnx", path=f"{name}.onnx", inputs=inputs, expected=expected, signature=signature, **rest)


def _direct(folder, name, feed):
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    return dict(zip([node.name for node in session.get_outputs()], session.run(None, feed), strict=True))


def _mlp(folder: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32)
    model = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=60, random_state=0)).fit(x, y)
    (folder / "mlp.onnx").write_bytes(to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString())
    rows = x[:12]
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows).astype(np.float32)}
    gives = [_spec("label", "INT64", [-1]), _spec("probabilities", "FP32", [-1, 2])]
    _write(folder, "mlp", {"X": rows}, expected, [_spec("X", "FP32", [-1, 30])], gives, tolerance=1e-4)


def _zipmap(folder: Path) -> None:
    data = load_iris()
    x, y = data.data.astype(np.float32), data.target_names[data.target].astype(str)
    model = LogisticRegression(max_iter=500).fit(x, y)
    (folder / "zipmap.onnx").write_bytes(to_onnx(model, x[:1], options={"zipmap": True}).SerializeToString())
    rows = x[::25]
    expected = {
        "output_label": model.predict(rows).astype(object),
        "output_probability": model.predict_proba(rows).astype(np.float32),
    }
    gives = [_spec("output_label", "BYTES", [-1]), _spec("output_probability", "FP32", [-1, -1])]
    _write(folder, "zipmap", {"X": rows}, expected, [_spec("X", "FP32", [-1, 4])], gives, tolerance=1e-4)


def _mixed(folder: Path) -> None:
    import pandas as pd

    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {"age": random.normal(40, 9, 200).astype(np.float32), "city": random.choice(["Oslo", "Zürich", "Lima"], 200)}
    )
    y = (table["age"] / 40 + (table["city"] == "Oslo") > 1.3).astype(int)
    columns = ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])])
    model = make_pipeline(columns, LogisticRegression()).fit(table, y)
    types = [("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]
    (folder / "mixed.onnx").write_bytes(to_onnx(model, initial_types=types, options={"zipmap": False}).SerializeToString())
    rows = table.iloc[:8]
    inputs = {"age": rows[["age"]].to_numpy(), "city": rows[["city"]].to_numpy(dtype=object)}
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows).astype(np.float32)}
    takes = [_spec("age", "FP32", [-1, 1]), _spec("city", "BYTES", [-1, 1])]
    gives = [_spec("label", "INT64", [-1]), _spec("probabilities", "FP32", [-1, 2])]
    _write(folder, "mixed", inputs, expected, takes, gives, tolerance=1e-4)


def _graph(folder, name, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(value, key) for key, value in initializers])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")


def _by_hand(folder: Path) -> None:
    floats, value = TensorProto.FLOAT, helper.make_tensor_value_info
    # A mean over the batch: first dimensions vary, rows are not independent, so it must not be batched.
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), helper.make_node("Sub", ["x", "m"], ["y"])]
    _graph(folder, "centred", nodes, [value("x", floats, ["n", 3])], [value("y", floats, ["n", 3])])
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    takes, gives = [_spec("x", "FP32", [-1, 3])], [_spec("y", "FP32", [-1, 3])]
    _write(folder, "centred", {"x": x}, _direct(folder, "centred", {"x": x}), takes, gives, batched=False)
    # A scalar beside a vector, and a constant that a request may replace.
    nodes = [helper.make_node("Mul", ["v", "factor"], ["w"]), helper.make_node("Add", ["w", "shift"], ["y"])]
    inputs = [value("v", floats, [4]), value("factor", floats, []), value("shift", floats, [4])]
    _graph(folder, "scaled", nodes, inputs, [value("y", floats, [4])], [("shift", np.ones(4, np.float32))])
    feed = {"v": np.arange(4, dtype=np.float32), "factor": np.array(2.5, np.float32)}
    takes = [_spec("v", "FP32", [4]), _spec("factor", "FP32", []), _spec("shift", "FP32", [4], optional=True)]
    _write(folder, "scaled", feed, _direct(folder, "scaled", feed), takes, [_spec("y", "FP32", [4])], batched=False)


def build(folder: Path) -> None:
    for make in (_mlp, _zipmap, _mixed, _by_hand):
        make(folder)
