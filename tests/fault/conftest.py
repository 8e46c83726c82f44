"""Homes whose servers serve a model that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_home import FaultyHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FaultyHome]:
    """A home of this test's own."""
    found = FaultyHome(tmp_path / "h")
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], FaultyHome]]:
    """Makes homes that live as long as the tests of one file."""
    made: list[FaultyHome] = []

    def make() -> FaultyHome:
        made.append(FaultyHome(tmp_path_factory.mktemp("shared") / "h"))
        return made[-1]

    yield make
    for found in made:
        found.close()
