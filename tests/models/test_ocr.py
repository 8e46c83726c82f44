"""RapidOCR, three models in a row: as three deployments with a client between them, and as one class, against RapidOCR itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from model_assets import direct, ocr_folder, run_script
from model_server import Server

from headgate.errors import InvalidRequest

LINES = {"page": ["Headgate 2024", "opens at noon", "the river rises"], "note": ["Total: 1,250.00 EUR"]}


def folder() -> Path:
    return direct("ocr", "models")


@pytest.mark.parametrize("step", ["det", "cls", "rec"])
def test_each_model_gives_the_same_numbers(step: str, server: Server) -> None:
    """The tensor that RapidOCR gave to the model, up to 14 MB, gives the tensor that it got."""
    answer = server.client.predict(step, np.load(folder() / f"{step}-in.npy"))
    np.testing.assert_allclose(answer, np.load(folder() / f"{step}-out.npy"), atol=1e-4)


def test_three_deployments_read_a_page(server: Server) -> None:
    """RapidOCR with each of its three models behind a URL reads what was drawn, which is also what it reads by itself."""
    read = json.loads(run_script("ocr", "models", server.url, str(folder() / "page.png")))
    assert read == json.loads((folder() / "read.json").read_text())["page"] == LINES["page"]


@pytest.fixture(scope="module")
def reader(server: Server) -> Server:
    """The server with the class that takes images; RapidOCR's own code and weights travel in the package."""
    # On a busy machine a page takes more than the ten seconds that a batch has by default.
    slow = ("--batch-timeout", "60s", "--timeout", "120s")
    server.deploy_class("reader", "Reader", "--include", ocr_folder() / "rapidocr_onnxruntime", *slow)
    return server


def test_one_class_reads_pages(reader: Server) -> None:
    """Two images in one request, as files: the text of each."""
    images = np.empty(len(LINES), dtype=object)
    images[:] = [(folder() / f"{name}.png").read_bytes() for name in LINES]
    answer = reader.client.predict("reader", {"image": images})
    assert [text.split("\n") for text in answer["output"].tolist()] == list(LINES.values())


def test_what_is_no_image_is_the_callers_fault(reader: Server) -> None:
    """The class says so with InvalidInput: the client gets a 400 with its words, and the log no traceback."""
    with pytest.raises(InvalidRequest, match="not an image"):
        reader.client.predict("reader", {"image": np.array([b"no image"], dtype=object)})
    (log,) = (reader.home.path / "logs").glob("reader-*.log")
    assert "Traceback" not in log.read_text()
