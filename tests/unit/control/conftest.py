"""Worlds for the tests of control, from one database that is migrated once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_world import ControlWorld

from headgate.registry.database import Database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "headgate.db"
    Database(path).close()
    return path


@pytest.fixture
def world(tmp_path: Path, empty_database: Path) -> Iterator[ControlWorld]:
    made = ControlWorld(tmp_path / "world", empty_database)
    yield made
    made.close()
