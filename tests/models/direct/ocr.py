"""Read drawn text with RapidOCR: ``ocr.py FOLDER``, or with its three models served elsewhere: ``ocr.py URL IMAGE``.

The first writes ``det.onnx``, ``cls.onnx``, ``rec.onnx``, the images ``page.png`` and ``note.png``, what RapidOCR reads on them
(``read.json``), and ``STEP-in.npy`` and ``STEP-out.npy``, the first tensors that went into and came out of each model. The second
prints the lines as JSON.
"""

import json
import shutil
import sys
import urllib.request
from pathlib import Path

import numpy as np
import rapidocr_onnxruntime
from PIL import Image, ImageDraw, ImageFont

PAGES = {"page": ["Headgate 2024", "opens at noon", "the river rises"], "note": ["Total: 1,250.00 EUR"]}
STEPS = {"det": ("text_det", "infer"), "cls": ("text_cls", "infer"), "rec": ("text_rec", "session")}
"""Where RapidOCR keeps the three models."""


def draw(lines):
    image = Image.new("RGB", (640, 480), "white")
    for at, line in enumerate(lines):
        ImageDraw.Draw(image).text((30, 30 + 80 * at), line, fill="black", font=ImageFont.load_default(40))
    return image


class Recorded:
    """One of the models, with the first tensors that went through it."""

    def __init__(self, run):
        self._run = run
        self.first = None

    def __call__(self, array):
        """Run it."""
        results = self._run(array)
        self.first = self.first or (array, results[0])
        return results

    def __getattr__(self, name):
        return getattr(self._run, name)


class Served:
    """One of the models, deployed at ``url``: spoken to as anybody would, in Open Inference Protocol with binary tensors."""

    def __init__(self, url):
        self._url = url

    def __call__(self, array):
        """Ask for the answer."""
        array = np.ascontiguousarray(array, dtype="<f4")
        tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        with urllib.request.urlopen(urllib.request.Request(self._url, head + array.tobytes(), headers)) as answer:
            body, length = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
        (output,) = json.loads(body[:length])["outputs"]
        return [np.frombuffer(body[length:], "<f4").reshape(output["shape"])]


def steps(reader, wrap):
    """Put what ``wrap`` gives in the place of each of the three models."""
    wrapped = {}
    for name, (part, attribute) in STEPS.items():
        holder = getattr(reader, part)
        wrapped[name] = wrap(name, getattr(holder, attribute))
        setattr(holder, attribute, wrapped[name])
    return wrapped


def read(reader, path):
    """Return the lines in the image at ``path``."""
    found, _ = reader(str(path))
    return [line for _, line, _ in found or []]


def main(folder):
    weights = Path(rapidocr_onnxruntime.__file__).parent / "models"
    for name in STEPS:
        shutil.copyfile(next(weights.glob(f"*_{name}_*.onnx")), folder / f"{name}.onnx")
    reader = rapidocr_onnxruntime.RapidOCR()
    recorded = steps(reader, lambda name, run: Recorded(run))
    for name, lines in PAGES.items():
        draw(lines).save(folder / f"{name}.png")
    (folder / "read.json").write_text(json.dumps({name: read(reader, folder / f"{name}.png") for name in PAGES}))
    for name, step in recorded.items():
        for place, array in zip(("in", "out"), step.first, strict=True):
            np.save(folder / f"{name}-{place}.npy", array)


def served(url, image):
    reader = rapidocr_onnxruntime.RapidOCR()
    steps(reader, lambda name, run: Served(f"{url}/v2/models/{name}/infer"))
    print(json.dumps(read(reader, image)))


if __name__ == "__main__":
    main(Path(sys.argv[1])) if len(sys.argv) == 2 else served(*sys.argv[1:])
