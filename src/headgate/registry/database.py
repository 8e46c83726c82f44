"""The database of a home: one SQLite file for the registry and for what is wanted of the server.

Tables are declared on `Base`, by the registry and by control; the file's schema is made by the migrations in ``migrations/`` only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from headgate.errors import Conflict, HeadgateError, NotReady, StorageFull
from headgate.home import check_room

HEAD = "0002"
"""The newest revision in ``migrations/versions``: what this code reads and writes."""
BUSY_SECONDS = 5.0
"""How long a writer waits for another before it is told to come again."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITES = "headgate_writes"


class Base(DeclarativeBase):
    """Parent of every table, whoever declares it."""


class Database:
    """One SQLite file. Readers never wait; writers come one after the other. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``, making or migrating it where its schema is behind.

        Raises `Conflict` if a newer Headgate has written it.
        """
        self.path = path
        self._engine = _engine(path)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._writing = threading.Lock()
        _migrate(self._engine, path)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session that reads one state of the database, whoever writes meanwhile."""
        with _explained(self.path), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def begin(self) -> Iterator[Session]:
        """Yield a session that may write, and commit it at the end of the block; on disk when this returns. Does not nest.

        Raises `NotReady` when other writers leave no room for five seconds.
        """
        # Threads queue here, in order; SQLite lets waiting processes poll, and with many of them one may starve.
        if not self._writing.acquire(timeout=BUSY_SECONDS):
            raise _busy()
        try:
            with _explained(self.path), Session(self._writer, expire_on_commit=False) as session, session.begin():
                # SQLAlchemy would begin with the first statement; whoever is in the block is promised to be the only writer.
                session.connection()
                yield session
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS}, pool_size=4, max_overflow=32)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        # The driver's own transactions begin late and without a lock; `begin` below does it.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes would fail instead of waiting, so a writer says so at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")

    return engine


def _migrate(engine: Engine, path: Path) -> None:
    with _explained(path):
        if _revision(engine) == HEAD:
            return
        with _locked(path.parent):
            if _revision(engine) is None:
                _create(engine)
            else:
                _upgrade(engine)


def _revision(engine: Engine) -> str | None:
    """Return the revision of the schema, or None where there is none."""
    with engine.connect() as connection:
        if not connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).scalar():
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision


def _create(engine: Engine) -> None:
    """Make the newest schema at once: a new home starts in a tenth of the time that Alembic's way takes, and ends the same."""
    statements = (_MIGRATIONS / "schema.sql").read_text().split(";")
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        for statement in statements:
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


def _upgrade(engine: Engine) -> None:
    # Alembic takes most of a second to import; a schema is behind once.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    # One transaction for all of it: a process that is killed in the middle leaves the schema as it was.
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Conflict(
                f"{engine.url.database}: written by a newer Headgate than this one ({error}); upgrade Headgate"
            ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's flock: two processes that open a new home at once migrate it one after the other."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the machine into our own errors."""
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        said = str(error.orig)
        if "locked" in said or "busy" in said:
            raise _busy() from error
        if "full" in said:
            raise StorageFull(f"no space left on the disk of {path}; nothing was written. Free some space and try again") from error
        with contextlib.suppress(OSError):
            check_room(path.parent)  # SQLite has many words for a file that it had no room to make
        raise HeadgateError(f"{path}: SQLite says: {said}; nothing was written") from error


def _busy() -> NotReady:
    return NotReady(
        f"the database was busy with other writers for {BUSY_SECONDS:g} s; nothing was written. Try again", retry_after=1.0
    )
