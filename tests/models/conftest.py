"""One server for all models: the bare files are served as they are, Python classes are deployed beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from model_assets import direct
from model_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of all the bare model files."""
    torch, plain = "models-torch", "models"
    ocr = direct("ocr", plain)
    files = [direct("minilm", torch) / "minilm.onnx", direct("magika", plain) / "magika.onnx", direct("silero", torch) / "vad.onnx"]
    running = Server(tmp_path_factory.mktemp("models"), [*files, *(ocr / f"{step}.onnx" for step in ("det", "cls", "rec"))])
    try:
        running.until_ready()
        yield running
    finally:
        running.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for what is not cached yet: an export to ONNX takes a minute on an idle machine."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(900))
