"""The database: its schema, its settings, and who may open it."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headgate.control import store
from headgate.errors import Conflict, HeadgateError, NotReady, StorageFull
from headgate.home import Home
from headgate.registry import database, registry
from headgate.registry.access import open_registry, registry_of
from headgate.registry.database import HEAD, Base, Database
from headgate.testing.clock import ManualClock


def test_the_head_is_the_newest_migration() -> None:
    """The constant that saves importing Alembic names what Alembic would call the head."""
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrations_make_what_the_code_declares(tmp_path: Path) -> None:
    """After all migrations the database has exactly the tables and columns that registry and control declare."""
    opened = Database(tmp_path / "headgate.db")
    with opened.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        differences: list[Any] = compare_metadata(context, Base.metadata)
    opened.close()
    assert {"models", "versions", "keys", registry.ModelRow.__tablename__, store.DeploymentRow.__tablename__} <= set(
        Base.metadata.tables
    )
    assert differences == []


def test_a_new_home_has_the_schema_that_the_migrations_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way of a new home (schema.sql) ends where the long one (every migration) does."""

    def schema(path: Path) -> list[tuple[str, ...]]:
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
            rows += connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.close()
        return [tuple(" ".join(str(part).split()) for part in row) for row in rows]

    Database(tmp_path / "short.db").close()
    monkeypatch.setattr(database, "_create", database._upgrade)
    Database(tmp_path / "long.db").close()
    assert schema(tmp_path / "short.db") == schema(tmp_path / "long.db")


def test_opening_again_migrates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that is up to date costs one query: Alembic is not even asked."""
    Database(tmp_path / "headgate.db").close()
    for way in ("_upgrade", "_create"):
        monkeypatch.setattr(database, way, lambda _: pytest.fail("migrated again"))
    Database(tmp_path / "headgate.db").close()


def test_settings(tmp_path: Path) -> None:
    """Readers do not wait for writers, an acknowledged commit is on disk, and references are enforced."""
    opened = Database(tmp_path / "headgate.db")
    with opened.session() as session:
        found = [
            session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    opened.close()
    assert found == ["wal", 2, 1, 5000]


def test_a_file_that_finds_no_room_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever SQLite says of a file that it cannot make: without room on the disk it is that; with room, it is what SQLite says."""
    path = tmp_path / "headgate.db"
    path.mkdir()
    with pytest.raises(HeadgateError, match="unable to open database file"):
        Database(path)

    def full(folder: Path) -> None:
        raise StorageFull(f"no room in {folder}")

    monkeypatch.setattr(database, "check_room", full)
    with pytest.raises(StorageFull, match=f"no room in {tmp_path}"):
        Database(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older Headgate does not write into what it does not know."""
    Database(tmp_path / "headgate.db").close()
    with sqlite3.connect(tmp_path / "headgate.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Conflict, match="newer Headgate"):
        Database(tmp_path / "headgate.db")


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Half a schema would be worse than none: all of it is one transaction."""
    with sqlite3.connect(tmp_path / "headgate.db") as connection:
        connection.execute("CREATE TABLE meta (x)")
    connection.close()
    with pytest.raises(HeadgateError, match="meta already exists"):
        Database(tmp_path / "headgate.db")
    with sqlite3.connect(tmp_path / "headgate.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("meta",)]
    connection.close()


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    """A damaged file is our error with its path, not a traceback of SQLAlchemy."""
    (tmp_path / "headgate.db").write_bytes(b"not a database" * 100)
    with pytest.raises(HeadgateError, match=r"headgate\.db"):
        Database(tmp_path / "headgate.db")


def write_and_fail(opened: Database) -> None:
    with opened.begin() as session:
        session.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
        raise ZeroDivisionError


def test_a_block_that_fails_writes_nothing(tmp_path: Path) -> None:
    """What raises within ``begin`` is rolled back."""
    opened = Database(tmp_path / "headgate.db")
    with pytest.raises(IntegrityError), opened.begin() as session:
        session.execute(text("INSERT INTO meta VALUES ('a', 'b'), ('a', 'c')"))
    with pytest.raises(ZeroDivisionError):
        write_and_fail(opened)
    with opened.session() as session:
        assert session.execute(text("SELECT count(*) FROM meta")).scalar() == 0
    opened.close()


def test_a_busy_database_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes for too long, readers go on and writers are told to come again."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    opened = Database(tmp_path / "headgate.db")
    other = sqlite3.connect(tmp_path / "headgate.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady, match="busy with other writers") as caught, opened.begin():
        pytest.fail("two writers at once")
    assert caught.value.retry_after == 1.0
    with opened.session() as session:
        assert session.execute(text("SELECT count(*) FROM models")).scalar() == 0
    other.close()
    with opened.begin() as session:
        session.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
    opened.close()


def test_a_home_is_opened_by_one(tmp_path: Path) -> None:
    """While a command has a home open, another waits up to five seconds, then is told why."""
    clock = ManualClock()
    with (
        open_registry(Home(tmp_path)),
        pytest.raises(Conflict, match="another command"),
        open_registry(Home(tmp_path), clock, clock.advance),
    ):
        pytest.fail("two commands in one home")
    assert clock.monotonic() == pytest.approx(1005, abs=0.1)
    with open_registry(Home(tmp_path)) as opened:
        assert opened.models() == []


def test_a_command_waits_for_another(tmp_path: Path) -> None:
    """When the other ends in time, there is no error."""
    first = open_registry(Home(tmp_path))
    first.__enter__()
    with open_registry(Home(tmp_path), pause=lambda _: first.__exit__(None, None, None)) as opened:
        assert opened.models() == []


def test_a_live_server_is_named(tmp_path: Path) -> None:
    """Where a server has the home, the command is told its pid and URL at once; the server itself opens it without the lock."""
    home = Home(tmp_path).create()
    home.server.write_text(json.dumps({"pid": os.getpid(), "control_url": "http://127.0.0.1:8081"}))
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(Conflict, match=rf"pid {os.getpid()}, http://127\.0\.0\.1:8081"), open_registry(home, pause=pytest.fail):
        pytest.fail("opened beside a server")
    with registry_of(home) as opened:
        assert opened.models() == []
    os.close(lock)
