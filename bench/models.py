"""The measured models and their example inputs, under .cache/bench; made once."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench import oip
from bench.environments import ROOT, environment

CACHE = ROOT / ".cache" / "bench"
REQUIREMENTS = ("numpy>=2", "onnx>=1.19", "onnxruntime>=1.22", "scikit-learn>=1.6")
BUILDER = Path(__file__).with_name("build_models.py")
NAMES = ("mlp", "ranker", "cnn", "image")


@dataclass(frozen=True)
class Model:
    """A model file, the example request, and what onnxruntime answers to it. Values are flat, rows first."""

    name: str
    path: Path
    input: str
    output: str
    shape: tuple[int, ...]
    data: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def raw(self) -> bytes:
        """The example input as little-endian FP32."""
        return struct.pack(f"<{len(self.data)}f", *self.data)


TENSORS = {
    "mlp": ("features", "probability"),
    "ranker": ("candidates", "score"),
    "cnn": ("image", "logits"),
    "image": ("image", "mean"),
}


def tools_python() -> Path:
    """The environment with onnx and onnxruntime in which models are built and run directly."""
    return environment("tools", REQUIREMENTS)


def read_npy(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and values of a C-ordered little-endian FP32 .npy file; the harness itself has no NumPy."""
    content = path.read_bytes()
    length = struct.unpack_from("<H", content, 8)[0]
    header = content[10 : 10 + length].decode("latin-1")
    if "'<f4'" not in header or "'fortran_order': False" not in header:
        raise ValueError(f"{path} is not a C-ordered float32 array")
    inside = header[header.index("(") + 1 : header.index(")")]
    shape = tuple(int(part) for part in inside.split(",") if part.strip())
    values = content[10 + length :]
    return shape, struct.unpack(f"<{len(values) // 4}f", values)


def build() -> None:
    """Write the models where they are missing or older than the code that writes them."""
    stamp = CACHE / ".models"
    if stamp.exists() and stamp.stat().st_mtime >= BUILDER.stat().st_mtime:
        return
    argv = [str(tools_python()), "-m", "bench.build_models", str(CACHE)]
    subprocess.run(argv, cwd=ROOT, check=True)
    stamp.touch()


@cache
def model(name: str) -> Model:
    """The model, built when it is not there yet."""
    build()
    path = CACHE / f"{name}.onnx"
    shape, data = read_npy(path.with_suffix(".npy"))
    _, expected = read_npy(path.with_suffix(".expected.npy"))
    return Model(name, path, *TENSORS[name], shape, data, expected)


def main() -> None:
    """Write models and bodies, for use by hand with gateway_profile.py."""
    for name in NAMES:
        example = model(name)
        body, length = oip.binary_body(example)
        (CACHE / f"{name}.json").write_bytes(oip.json_body(example))
        (CACHE / f"{name}.bin").write_bytes(body)
        (CACHE / f"{name}.bin.header").write_text(str(length))
        print(f"{example.path}: input {example.shape}, answer begins {example.expected[:3]}")


if __name__ == "__main__":
    main()
