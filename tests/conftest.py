"""What holds in every suite: long tests only when asked for, unit tests that stay inside, and nothing left running."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import psutil
import pytest

TESTS = Path(__file__).parent

# A loaded machine is no counterexample, so examples have no deadline; test-long looks at many more of them.
hypothesis.settings.register_profile("default", deadline=None, max_examples=100, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=3000, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="also run the tests marked long, and look at more examples in property tests"
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    short = [item for item in items if item.get_closest_marker("long") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in short])
    items[:] = short


@pytest.fixture(autouse=True)
def _unit_tests_stay_inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``tests/unit``, using the network and sleeping are errors: such a test belongs to another suite, or takes a clock."""
    if not request.path.is_relative_to(TESTS / "unit"):
        return

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("a unit test must not use the network or sleep; give it a fake or a clock, or move it to another suite")

    def connect(own: socket.socket, address: Any) -> None:
        # A Unix socket between two ends of the same test waits for nobody else.
        if own.family != socket.AF_UNIX:
            refuse()
        reach(own, address)

    reach = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(time, "sleep", refuse)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end no process of Headgate lives whose home is below this run's temporary folder; one that does is ended and said."""
    yield
    folder = str(tmp_path_factory.getbasetemp())
    left = [process for process in psutil.process_iter() if process.pid != os.getpid() and _belongs_to(process, folder)]
    said = [f"{process.pid} {' '.join(process.cmdline()[:6])}" for process in left if process.is_running()]
    for process in left:
        if process.is_running():
            process.send_signal(signal.SIGKILL)
    assert not said, "processes were left running: " + "; ".join(said)


def _belongs_to(process: psutil.Process, folder: str) -> bool:
    try:
        return any(folder in process.environ().get(name, "") for name in ("HEADGATE_CONFIG", "HEADGATE_HOME"))
    except psutil.Error:
        return False
