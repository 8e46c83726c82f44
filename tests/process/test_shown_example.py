"""What a user is shown to start from is answered, not refused: the line to paste, and the row on the page."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import skops.io
from serving_home import Serving, ServingHome
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home with a model of categories beside it, which refuses those it was not trained on."""
    frame = pd.DataFrame({"city": ["Oslo", "Ulm", "Lima", "Oslo"], "floor": [3, 4, 3, 4], "area": [10.0, 20.0, 30.0, 40.0]})
    encoder = make_column_transformer((OneHotEncoder(), ["city", "floor"]), remainder="passthrough")
    made = ServingHome(tmp_path / "h")
    skops.io.dump(make_pipeline(encoder, LogisticRegression()).fit(frame, [0, 1, 0, 1]), made.folder / "flats.skops")
    yield made
    made.close()


def shown(serving: Serving) -> dict[str, object]:
    """The row of the line to paste, once it is printed."""
    line = re.search(r"^  try      (.*)$", serving.until_settled().said, re.MULTILINE)
    assert line is not None, serving.said
    row: dict[str, object] = json.loads(shlex.split(line[1])[-1])
    return row


def test_categories_are_shown_that_the_model_knows(home: ServingHome) -> None:
    """The row is one the model was trained on, on the terminal, on the page and in the description, the next time too; a second push
    of the same file is no new version."""
    serving = home.serve(str(home.folder / "flats.skops"), "--threads", "1")
    row = shown(serving)
    assert row["city"] in ("Oslo", "Ulm", "Lima")
    assert serving.ask("flats", row).status == 200
    assert serving.ask("flats", {**row, "city": "text"}).status == 400
    page = re.search(r"<textarea[^>]*>(.*?)</textarea>", serving.get("/docs").body.decode())
    assert page is not None
    assert json.loads(html.unescape(page[1])) == row
    paths = serving.get("/openapi.json").json["paths"]
    examples = {
        path: operation["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, operation in paths.items()
        if "post" in operation
    }
    assert examples["/predict/flats"] == row
    for path, example in examples.items():
        assert serving.request("POST", path, example, content_type="application/json").status == 200, path
    assert "nothing has changed: flats@1" in home.run("push", str(home.folder / "flats.skops")).stderr
    assert serving.stop() == 0
    assert shown(home.serve()) == row
