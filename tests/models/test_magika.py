"""Magika: the bare model on what it sees of a file, and a class that takes the file, against Magika itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from model_assets import direct
from model_server import Server

TOLERANCE = 2e-5
"""ONNX Runtime adds in another order for nine rows than for one."""


def folder() -> Path:
    return direct("magika", "models")


def test_the_bare_model_gives_the_same_scores(server: Server) -> None:
    """214 scores of each file, in one batch and one by one."""
    features, scores = np.load(folder() / "features.npy"), np.load(folder() / "scores.npy")
    np.testing.assert_allclose(server.client.predict("magika", features), scores, atol=TOLERANCE)
    alone = [server.client.predict("magika", row[None]) for row in features]
    np.testing.assert_allclose(np.concatenate(alone), scores, atol=TOLERANCE)


@pytest.fixture(scope="module")
def labels(server: Server) -> Server:
    """The server with the class that takes files."""
    server.deploy_class("filetype", "Labels", "--name", "labels")
    return server


def test_files_are_recognised(labels: Server) -> None:
    """Text and binary files, sent as they are, are what they are named after; that is also what Magika says directly."""
    said = json.loads((folder() / "labels.json").read_text())
    files = sorted((folder() / "files").iterdir())
    contents = np.empty(len(files), dtype=object)
    contents[:] = [path.read_bytes() for path in files]
    answer = labels.client.predict("labels", {"content": contents})
    found = dict(zip([path.name for path in files], answer["label"].tolist(), strict=True))
    assert found == said == {path.name: path.name for path in files}
    assert answer["score"].min() > 0.5


def test_a_file_can_be_sent_as_a_row(labels: Server) -> None:
    """Text goes as plain JSON, too."""
    (row,) = labels.client.predict("labels", [{"content": (folder() / "files" / "csv").read_text()}])
    assert row["label"] == "csv"
