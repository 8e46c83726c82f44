"""Ask Magika what some files are: ``magika.py FOLDER``.

Writes ``magika.onnx``, the ``files/`` (named after what they are), ``features.npy`` (what the model sees of each, by name), ``scores.npy``
(what ONNX Runtime answers) and ``labels.json`` (what Magika itself answers).
"""

import gzip
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import magika
import numpy as np
from PIL import Image, ImageDraw

CODE = Path(__file__).read_bytes()
TABLE = "\n".join(["id,name,amount,city", *(f"{n},customer {n},{n * 1.25:.2f},Town {n % 7}" for n in range(60))])
PAGE = "<!DOCTYPE html>\n<html><head><title>A gate</title></head><body><h1>Open</h1><p>Some <b>text</b>.</p></body></html>\n"
QUERY = (
    "SELECT d.name, count(*) AS n FROM deployments d JOIN revisions r ON r.of = d.id\nWHERE d.state = 'ready' GROUP BY d.name;\n"
)


def picture(format):
    image = Image.new("RGB", (120, 80), "white")
    ImageDraw.Draw(image).ellipse((20, 10, 100, 70), fill="navy")
    data = io.BytesIO()
    image.save(data, format)
    return data.getvalue()


def archive():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("magika.py", CODE)
    return data.getvalue()


def files():
    """Return files by what they are."""
    return {
        "python": CODE,
        "csv": TABLE.encode(),
        "html": PAGE.encode(),
        "sql": QUERY.encode() * 4,
        "json": json.dumps({"rows": [{"id": n, "name": f"customer {n}"} for n in range(40)]}, indent=1).encode(),
        "png": picture("PNG"),
        "jpeg": picture("JPEG"),
        "gzip": gzip.compress(CODE, mtime=0),
        "zip": archive(),
    }


class Recorded:
    """The session inside Magika, and what went through it."""

    def __init__(self, session):
        self._session = session
        self.features = []
        self.scores = []

    def run(self, names, inputs):
        """Run the model and remember what for."""
        results = self._session.run(names, inputs)
        self.features.append(inputs["bytes"])
        self.scores.append(results[0])
        return results


def main(folder):
    known = files()
    (folder / "files").mkdir()
    for name, data in known.items():
        (folder / "files" / name).write_bytes(data)
    shutil.copyfile(next(Path(magika.__file__).parent.glob("models/*/model.onnx")), folder / "magika.onnx")
    judge = magika.Magika()
    judge._onnx_session = Recorded(judge._onnx_session)
    labels = {name: str(judge.identify_bytes(known[name]).output.label) for name in sorted(known)}
    (folder / "labels.json").write_text(json.dumps(labels))
    np.save(folder / "features.npy", np.concatenate(judge._onnx_session.features).astype(np.int32))
    np.save(folder / "scores.npy", np.concatenate(judge._onnx_session.scores))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
