"""The real clients of Triton and a repository's models that keep state. What is checked stands in ``triton_sequence_calls.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import checks_of, run_checks
from sequence_models import sequence_repository
from serving_home import ServingHome

SCRIPT = Path(__file__).with_name("triton_sequence_calls.py")
CHECKS = [f"{check}-{transport}" for check in checks_of(SCRIPT) for transport in ("http", "grpc")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The outcome of every check: ``ok``, or a traceback."""
    home = ServingHome(tmp_path_factory.mktemp("sequences"))
    serving = home.serve(str(sequence_repository(home.folder / "models")), "--threads", "1")
    serving.until_ready("adding", "telling")
    yield run_checks("tritonclient", SCRIPT, serving.url.partition("://")[2])
    home.close()


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient_sequences(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]
