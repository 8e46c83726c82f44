"""The worlds of the tests of control, with traffic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "control"))

from control_world import ControlWorld
from traffic import Traffic

from headgate.registry.database import Database


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once."""
    path = tmp_path_factory.mktemp("template") / "headgate.db"
    Database(path).close()
    return path


@pytest.fixture
def traffic(tmp_path: Path, template: Path) -> Iterator[Traffic]:
    """A control plane with a gateway that real requests could come to."""
    world = ControlWorld(tmp_path / "world", template)
    yield Traffic(world)
    world.close()
