"""Save the models that the TensorFlow Serving client asks: ``tensorflow_models.py FOLDER``, in its own environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf


def spec(shape, dtype, name):
    """Return what a function takes."""
    return tf.TensorSpec(shape, dtype, name)


class Half(tf.Module):
    """Half plus two."""

    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def call(self, x):
        return {"y": x / 2 + 2}


class Prices(tf.Module):
    """A price by name of the thing and amount, and the name in capitals."""

    def __init__(self):
        super().__init__()
        keys, values = tf.constant(["tea", "coffee"]), tf.constant([1.5, 2.25])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)

    @tf.function(input_signature=[spec([None], tf.string, "thing"), spec([None], tf.int32, "amount")])
    def call(self, thing, amount):
        return {"price": self.table.lookup(thing) * tf.cast(amount, tf.float32), "shown": tf.strings.upper(thing)}


class Parsed(tf.Module):
    """Reads serialized examples with a float ``x`` and words ``tags`` in them."""

    def features(self, inputs):
        """Return ``x`` and the number of tags of every example."""
        layout = {"x": tf.io.FixedLenFeature([1], tf.float32), "tags": tf.io.VarLenFeature(tf.string)}
        found = tf.io.parse_example(inputs, layout)
        tags = tf.sparse.to_dense(tf.sparse.map_values(tf.strings.length, found["tags"]))
        return found["x"], tf.reshape(tf.math.count_nonzero(tags, 1, dtype=tf.float32), [-1, 1])


class Classifier(Parsed):
    """Scores for ``low`` and ``high``."""

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def call(self, inputs):
        x, tags = self.features(inputs)
        high = tf.sigmoid(x + tags)
        labels = tf.where(tf.concat([high, high], 1) < 0, "", [["low", "high"]])
        return {"classes": labels, "scores": tf.concat([1 - high, high], 1)}


class Regressor(Parsed):
    """Ten times ``x``, and one for each tag."""

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def call(self, inputs):
        x, tags = self.features(inputs)
        return {"outputs": 10 * x + tags}


class Several(Classifier):
    """Half plus two by default; it classifies, regresses, turns a matrix that is no batch, and has a signature that nobody can ask."""

    def __init__(self):
        super().__init__()
        self.two = tf.Variable(2.0)

    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def half(self, x):
        return {"y": x / self.two + 2}

    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def double(self, x):
        return {"y": x * self.two}

    @tf.function(input_signature=[spec([2, 3], tf.float32, "matrix")])
    def turn(self, matrix):
        return {"turned": tf.transpose(matrix)}

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": 10 * self.features(inputs)[0]}

    @tf.function(input_signature=[spec([None], tf.complex64, "z")])
    def strange(self, z):
        return {"real": tf.math.real(z)}

    def signatures(self):
        """Return them by their names."""
        return {
            "serving_default": self.half, "double": self.double, "turn": self.turn, "to_classes": self.call, "to_value": self.regress,
            "strange": self.strange,
        }  # fmt: skip


def save_several(folder):
    """Save it, and say of two signatures what they are for, which `tf.saved_model.save` does not."""
    model = Several()
    tf.saved_model.save(model, folder, signatures=model.signatures())
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    names.replace_method_name("to_classes", "tensorflow/serving/classify")
    names.replace_method_name("to_value", "tensorflow/serving/regress")
    names.save()


if __name__ == "__main__":
    for kind in (Half, Prices, Classifier, Regressor):
        model = kind()
        tf.saved_model.save(model, str(Path(sys.argv[1]) / kind.__name__.lower()), signatures={"serving_default": model.call})
    save_several(str(Path(sys.argv[1]) / "several"))
