"""A whole server with ``--model-control explicit``, and TensorFlow Serving's own client, which says what is served.

What is checked, and why, stands in ``tensorflow_reload_calls.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import checks_of, run_checks
from serving_home import ServingHome

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("tensorflow_reload_calls.py")
CHECKS = checks_of(SCRIPT)
TIMES = """
class Times:
    idempotent = True

    def predict(self, x: int) -> int:
        return {factor} * x
"""
BROKEN = """
import os

class Broken:
    def load(self):
        if '"links"' in os.environ["HEADGATE_CONFIG"]:
            raise RuntimeError("not in a replica")

    def predict(self, x: int) -> int:
        return x
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The outcome of every check: ``ok``, or a traceback."""
    home = ServingHome(tmp_path_factory.mktemp("reload") / "h")
    try:
        for version in (1, 2, 3):
            target = f"{home.write('twice.py', TIMES.format(factor=version))}:Times"
            home.done("push", target, "--name", "twice", "--note", f"/models/twice/{version}")
        home.done("push", f"{home.write('broken.py', BROKEN)}:Broken")
        admin, infer = home.done("key", "create", "--scope", "admin").strip(), home.done("key", "create").strip()
        home.environment["HEADGATE_API_KEY"] = admin
        serving = home.serve("--model-control", "explicit").until_settled()
        yield run_checks("tensorflow-serving", SCRIPT, serving.url.removeprefix("http://"), admin, infer)
    finally:
        home.close()


@pytest.mark.parametrize("check", CHECKS)
def test_reload(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)
