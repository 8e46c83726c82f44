"""Trusses: a class with all its steps, and one that waits, whose requests run side by side."""

import json
import textwrap

import numpy as np

from headgate.testing.runtimes import write_sample

CONFIG = {"model_metadata": {"greeting": "Hello"}, "secrets": {"token": "default"}}


def _write(folder, name, source, pairs, **more):
    told = {
        "config": CONFIG,
        "module": "model/model.py",
        "class": "Model",
        "packages": "packages",
        "data": "data",
        "environment": {"SAMPLE_MARK": "!"},
        "secrets": CONFIG["secrets"],
        "concurrency": more.get("concurrency", 1),
    }
    for file, text in {"model/model.py": source, "truss.json": json.dumps(told), **more.get("files", {})}.items():
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    document = {"dtype": "BYTES", "shape": [-1], "content": "json"}
    signature = {
        "inputs": [{"name": "model_input", **document}],
        "outputs": [{"name": "model_output", **document}],
        "batched": True,
        "parameters": True,
    }
    given, expected = ([json.dumps(value) for value in values] for values in zip(*pairs, strict=True))
    example = {"inputs": [{"name": "model_input", "datatype": "BYTES", "shape": [1], "data": [given[0]]}]}
    (folder / f"{name}-example.json").write_text(json.dumps(example))
    write_sample(
        folder,
        name,
        runtime="truss",
        path=f"{name}/truss.json",
        example=f"{name}-example.json",
        inputs={"model_input": np.array(given, dtype=object)},
        expected={"model_output": np.array(expected, dtype=object)},
        signature=signature,
    )


STEPS = """
    import os
    from model.words import shout
    from packaged_words import MARK


    class Model:
        def __init__(self, config, data_dir, secrets, **kwargs):
            assert set(kwargs) == {"lazy_data_resolver", "environment"}
            self._greeting = config["model_metadata"]["greeting"]
            self._end = (data_dir / "end.txt").read_text()
            self._token = secrets["token"]

        def load(self):
            self._loaded = True

        def preprocess(self, model_input):
            return model_input["name"]

        def predict(self, name):
            assert self._loaded
            return [self._greeting, shout(name), self._end, self._token, os.environ["SAMPLE_MARK"], MARK]

        def postprocess(self, words):
            return {"text": " ".join(words)}
"""
WAITS = """
    import asyncio

    import numpy as np


    class Model:
        async def predict(self, model_input):
            await asyncio.sleep(0.001 if model_input[0] else 0)
            return {"sum": np.float32(sum(model_input)), "row": np.array(model_input), "n": np.int64(len(model_input))}
"""


def build(folder):
    names = ("bo", "Zoë", "", "x y")
    steps = [({"name": name}, {"text": f"Hello {name.upper()} end default ! *"}) for name in names]
    files = {
        "model/words.py": "def shout(text):\n    return text.upper()\n",
        "packages/packaged_words.py": 'MARK = "*"\n',
        "data/end.txt": "end",
    }
    _write(folder, "steps", STEPS, steps, files=files)
    rows = ([1, 2.5], [0, 0.25], [3], [7, 8, 9])
    _write(
        folder,
        "waits",
        WAITS,
        [(row, {"sum": float(sum(row)), "row": np.array(row).tolist(), "n": len(row)}) for row in rows],
        concurrency=4,
    )
