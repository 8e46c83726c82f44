"""The page on the judge shows what its tool computes, and the tool runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from headgate.judge.settings import METRICS
from headgate.judge.verdict import Reason, Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "judge.md"
TABLE = re.compile(r"<!-- table (\w+) -->\n(.*?)<!-- /table -->", re.DOTALL)


@pytest.fixture(scope="module")
def plots() -> ModuleType:
    """The tool that simulates."""
    location = importlib.util.spec_from_file_location("headgate_judge_plots", ROOT / "tools" / "judge_plots.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def frame(text: str) -> dict[str, list[str]]:
    """Return, by table, its head and the first cell of each row: all that does not depend on the number of runs."""
    return {
        name: [table.splitlines()[0], *(row.split("|")[1] for row in table.splitlines()[2:])] for name, table in TABLE.findall(text)
    }


def test_the_tool_writes_what_the_page_shows(plots: ModuleType, tmp_path: Path) -> None:
    """With few runs: the same tables, row by row, the same charts by name, and each chart is an image."""
    shutil.copy(PAGE, tmp_path)
    assert plots.main(["--runs", "80", "--into", str(tmp_path)]) == 0
    assert frame((tmp_path / "judge.md").read_text()) == frame(PAGE.read_text())
    written = {path.name: path for path in (tmp_path / "images").iterdir()}
    assert set(written) == set(re.findall(r"\(images/([\w.-]+)\)", PAGE.read_text()))
    assert set(written) == {path.name for path in (ROOT / "docs" / "images").glob("judge-*.svg")}
    for path in written.values():
        shown = ElementTree.parse(path).getroot()
        assert len(shown.findall("{http://www.w3.org/2000/svg}polyline")) == 3


def test_the_evidence_that_is_drawn_is_in_step(plots: ModuleType) -> None:
    """The second chart has no runs to save: it is the one that is committed, to the byte."""
    assert plots.evidence_chart() == (ROOT / "docs" / "images" / "judge-evidence.svg").read_text(), "run tools/judge_plots.py"


def test_the_page_names_everything_that_is_said() -> None:
    """Every metric, verdict, and reason of an UNDECIDED can be looked up."""
    text = PAGE.read_text()
    spoken = [*(metric.name for metric in METRICS), *(verdict.name for verdict in Verdict)]
    decided = {Reason.WORSE, Reason.BREAKS_OBJECTIVE, Reason.PROVEN, Reason.BOTH_BREAK_OBJECTIVE}
    assert not [word for word in (*spoken, *(reason.value for reason in Reason if reason not in decided)) if word not in text]


def test_the_false_alarms_on_the_page_keep_the_promise() -> None:
    """What the page shows of the judge is below alpha, and what it shows of peeking is not."""
    table = dict(TABLE.findall(PAGE.read_text()))["false_alarms"]
    rows = [[float(cell.strip(" %")) for cell in row.split("|")[2:5]] for row in table.splitlines()[2:]]
    assert rows
    assert all(max(strict, default) <= 1.3 and peeking > 10 for strict, default, peeking in rows)
