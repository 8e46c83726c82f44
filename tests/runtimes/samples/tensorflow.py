"""A digit classifier as a SavedModel and as a Keras file, and a function of text and numbers."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from headgate.testing.runtimes import write_sample


def _write(folder, name, path, inputs, expected, takes, gives, more=None):
    def specs(named):
        return [{"name": key, "dtype": dtype, "shape": shape} for key, dtype, shape in named]

    signature = {"inputs": specs(takes), "outputs": specs(gives), "batched": True, "parameters": False, **(more or {})}
    write_sample(folder, name, runtime="tensorflow", path=path, inputs=inputs, expected=expected, signature=signature)


def _digits(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    data = load_digits()
    x, y = (data.data / 16).astype(np.float32), data.target
    layers = [keras.Input((64,), name="pixels"), keras.layers.Dense(32, "relu"), keras.layers.Dense(10, "softmax", name="digit")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=12, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.85
    rows, takes = x[:9], [("pixels", "FP32", [-1, 64])]
    expected = model(rows).numpy()
    model.save(folder / "digits.keras")
    _write(folder, "digits", "digits.keras", {"pixels": rows}, {"digit": expected}, takes, [("digit", "FP32", [-1, 10])])
    model.export(folder / "exported", verbose=False)
    gives = [("output_0", "FP32", [-1, 10])]
    again = {
        "inputs": [{"name": "pixels", "dtype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "output_0", "dtype": "FP32", "shape": [-1, 10]}],
        "batched": True,
        "parameters": False,
        "name": "serve",
    }
    # Keras exports the same function under two names.
    _write(folder, "exported", "exported", {"pixels": rows}, {"output_0": expected}, takes, gives, {"further": [again]})


def _two_inputs(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = {"wide": keras.Input((3,), name="wide"), "deep": keras.Input((None, 2), name="deep", dtype="int32")}
    deep = keras.layers.GlobalAveragePooling1D()(keras.ops.cast(inputs["deep"], "float32"))
    joined = keras.layers.Concatenate()([inputs["wide"], deep])
    model = keras.Model(
        inputs, {"up": keras.layers.Dense(1, name="up")(joined), "down": keras.layers.Dense(2, name="down")(joined)}
    )
    model.save(folder / "two.keras")
    random = np.random.default_rng(0)
    rows = {"wide": random.random((6, 3), dtype=np.float32), "deep": random.integers(0, 9, (6, 4, 2)).astype(np.int32)}
    expected = {name: value.numpy() for name, value in model(rows).items()}
    takes, gives = [("deep", "INT32", [-1, -1, 2]), ("wide", "FP32", [-1, 3])], [("up", "FP32", [-1, 1]), ("down", "FP32", [-1, 2])]
    _write(folder, "two", "two.keras", rows, expected, takes, gives)


class Prices(tf.Module):
    """A price by name of the thing and amount, and the name in capitals."""

    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant(["tea", "coffee"]), tf.constant([1.5, 2.25])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "thing"), tf.TensorSpec([None], tf.int32, "amount")])
    def price(self, thing, amount):
        return {"price": self.table.lookup(thing) * tf.cast(amount, tf.float32), "shown": tf.strings.upper(thing)}


def _text(folder: Path) -> None:
    prices = Prices()
    tf.saved_model.save(prices, str(folder / "prices"), signatures={"serving_default": prices.price})
    inputs = {
        "thing": np.array(["tea", "coffee", "rum", "tea", "tea"], dtype=object),
        "amount": np.array([1, 2, 3, 4, 5], np.int32),
    }
    expected = {
        "price": np.array([1.5, 4.5, 0, 6, 7.5], np.float32),
        "shown": np.array(["TEA", "COFFEE", "RUM", "TEA", "TEA"], object),
    }
    takes, gives = [("amount", "INT32", [-1]), ("thing", "BYTES", [-1])], [("price", "FP32", [-1]), ("shown", "BYTES", [-1])]
    _write(folder, "prices", "prices", inputs, expected, takes, gives)


class Powers(tf.Module):
    """Squares by one signature, and roots by another that takes one matrix at a time; nobody can send what a third takes."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def square(self, x):
        return {"squared": x * x}

    @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float32, "matrix")])
    def root(self, matrix):
        return {"roots": tf.sqrt(tf.abs(matrix))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, "z")])
    def turn(self, z):
        return {"turned": tf.math.real(z)}


def _named(folder: Path) -> None:
    """Save a model none of whose signatures has the name that is meant where nobody says which: the first by name is."""
    powers = Powers()
    signatures = {"square": powers.square, "root": powers.root, "turn": powers.turn}
    tf.saved_model.save(powers, str(folder / "powers"), signatures=signatures)
    square = {
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "squared", "dtype": "FP32", "shape": [-1]}],
        "batched": True,
        "parameters": False,
        "name": "square",
    }
    matrix = np.array([[1, 4], [9, 16]], np.float32)
    _write(
        folder, "powers", "powers", {"matrix": matrix}, {"roots": np.sqrt(matrix)}, [("matrix", "FP32", [2, 2])],
        [("roots", "FP32", [2, 2])], {"batched": False, "name": "root", "further": [square]},
    )  # fmt: skip


def build(folder: Path) -> None:
    _digits(folder)
    _two_inputs(folder)
    _text(folder)
    _named(folder)
