"""Writes the models that are measured; run by bench.models in an environment with onnx and scikit-learn.

python -m bench.build_models FOLDER
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


Port = tuple[str, list[Any]]


def save(nodes: list[Any], weights: dict[str, Array], inputs: Port, outputs: Port, path: Path) -> None:
    """One graph with one float input and one float output; 'batch' names the batch axis."""
    import onnx
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, inputs[1])],
        [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, outputs[1])],
        [numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name) for name, value in weights.items()],
    )
    # IR 8 and opset 17 load in every onnxruntime that a peer may bring along.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    onnx.save(model, path)


def dense(layers: list[tuple[Array, Array]], source: str, target: str, last: str) -> tuple[list[Any], dict[str, Array]]:
    """Gemm and Relu for each layer, `last` after the last one."""
    from onnx import helper

    nodes, weights = [], {}
    at = source
    for index, (weight, bias) in enumerate(layers):
        weights[f"w{index}"], weights[f"b{index}"] = weight, bias
        final = index == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [at, f"w{index}", f"b{index}"], [f"z{index}"]))
        at = target if final else f"a{index}"
        nodes.append(helper.make_node(last if final else "Relu", [f"z{index}"], [at]))
    return nodes, weights


def mlp(path: Path) -> None:
    """A trained MLP on breast_cancer: 30 floats to the probability of class 1; the scaler is folded into the first layer."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    scaler = StandardScaler().fit(rows)
    net = MLPClassifier((128, 64), alpha=1.0, max_iter=400, random_state=0).fit(scaler.transform(rows), labels)
    layers = [(weight, bias) for weight, bias in zip(net.coefs_, net.intercepts_, strict=True)]
    first, bias = layers[0]
    layers[0] = (first / scaler.scale_[:, None], bias - (scaler.mean_ / scaler.scale_) @ first)
    nodes, weights = dense(layers, "features", "probability", "Sigmoid")
    save(nodes, weights, ("features", ["batch", 30]), ("probability", ["batch", 1]), path)
    # The least certain row: an answer that rounds to 0 or 1 would hide a wrong input.
    at = int(np.abs(net.predict_proba(scaler.transform(rows))[:, 1] - 0.5).argmin())
    np.save(path.with_suffix(".npy"), rows[at : at + 1].astype(np.float32))


def ranker(path: Path) -> None:
    """64 floats of one candidate to its score; random weights."""
    random = np.random.default_rng(0)
    sizes = [64, 128, 64, 1]
    layers = [
        (random.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out)).astype(np.float32), np.zeros(fan_out, np.float32))
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    nodes, weights = dense(layers, "candidates", "score", "Sigmoid")
    save(nodes, weights, ("candidates", ["batch", 64]), ("score", ["batch", 1]), path)
    np.save(path.with_suffix(".npy"), random.normal(0, 1, (200, 64)).astype(np.float32))


class Residual:
    """ResNet-18 layer by layer (He et al., 2015), random weights, batch normalisation folded into the convolutions."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, at: str, channels: tuple[int, int], kernel: int, stride: int, gain: float = 2.0) -> str:
        """`gain` is the variance kept by the layer: 2 before a Relu; less where branches are added, so that sums stay small."""
        name = f"conv{len(self.nodes)}"
        scale = (gain / (channels[0] * kernel * kernel)) ** 0.5
        shape = (channels[1], channels[0], kernel, kernel)
        self.weights[f"{name}.w"] = self.random.normal(0, scale, shape).astype(np.float32)
        self.weights[f"{name}.b"] = np.zeros(channels[1], np.float32)
        pad = [kernel // 2] * 4
        return self.node("Conv", [at, f"{name}.w", f"{name}.b"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pad)

    def block(self, at: str, channels: tuple[int, int], stride: int) -> str:
        inner = self.node("Relu", [self.conv(at, channels, 3, stride)])
        branch = self.conv(inner, (channels[1], channels[1]), 3, 1, gain=0.2)
        skip = at if channels[0] == channels[1] else self.conv(at, channels, 1, stride, gain=1.0)
        return self.node("Relu", [self.node("Add", [branch, skip])])

    def write(self, path: Path) -> None:
        from onnx import helper

        at = self.node("Relu", [self.conv("image", (3, 64), 7, 2)])
        at = self.node("MaxPool", [at], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        for before, after in ((64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)):
            at = self.block(at, (before, after), 1 if before == after else 2)
        at = self.node("Flatten", [self.node("GlobalAveragePool", [at])])
        self.weights["head.w"] = self.random.normal(0, 0.05, (512, 1000)).astype(np.float32)
        self.weights["head.b"] = np.zeros(1000, np.float32)
        self.nodes.append(helper.make_node("Gemm", [at, "head.w", "head.b"], ["logits"]))
        save(self.nodes, self.weights, ("image", ["batch", 3, 224, 224]), ("logits", ["batch", 1000]), path)
        np.save(path.with_suffix(".npy"), self.random.normal(0, 1, (1, 3, 224, 224)).astype(np.float32))


def image(path: Path) -> None:
    """An image to its mean: next to no work, so that what moving 602 KB costs is seen."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["mean4"], ["mean"]),
    ]
    save(nodes, {}, ("image", ["batch", 3, 224, 224]), ("mean", ["batch", 1]), path)
    np.save(path.with_suffix(".npy"), np.random.default_rng(0).normal(0.5, 1, (1, 3, 224, 224)).astype(np.float32))


def expected(path: Path) -> None:
    """The answer of onnxruntime itself to the input beside the model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: np.load(path.with_suffix(".npy"))})
    np.save(path.with_suffix(".expected.npy"), answer)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mlp(folder / "mlp.onnx")
    ranker(folder / "ranker.onnx")
    Residual().write(folder / "cnn.onnx")
    image(folder / "image.onnx")
    for name in ("mlp", "ranker", "cnn", "image"):
        expected(folder / f"{name}.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
