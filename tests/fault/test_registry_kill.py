"""The registry under kill -9 and under many processes at once: what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.clock import SystemClock
from headgate.home import Home
from headgate.package.manifest import Manifest
from headgate.package.signature import Signature
from headgate.registry.access import open_registry, registry_of
from headgate.registry.registry import Registry

SECONDS = 12.0
"""How long writers are killed for."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def store(registry: Registry, content: bytes) -> str:
    """Store a package of three files and return its digest."""
    files = {f"{number}.onnx": content + bytes([number]) * 5000 for number in range(3)}
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    manifest = Manifest(runtime="onnx", entry="0.onnx", signature=Signature(inputs=(), outputs=()), files=hashes)
    with registry.store.staging() as folder:
        (folder / "files").mkdir()
        for path, data in files.items():
            (folder / "files" / path).write_bytes(data)
        (folder / "manifest.json").write_bytes(manifest.encode())
        return registry.store.add(folder)


def fork(work: Callable[[int], None]) -> tuple[int, int]:
    """Run ``work(pipe)`` in a process of its own; return its pid and the pipe's other end. A fork has everything imported already."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    try:
        os.close(ours)
        work(theirs)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def write_on(home: Home, run: int) -> Callable[[int], None]:
    """Register one version after the other, and move an alias to it, acknowledging each on the pipe when it is done."""

    def work(pipe: int) -> None:
        with open_registry(home) as registry:
            for number in range(100_000):
                version, _ = registry.register("fraud", store(registry, b"%d.%d" % (run, number)))
                registry.set_alias("fraud", "newest", version.number)
                os.write(pipe, f"{version.number} {version.digest}\n".encode())

    return work


def kill_one(home: Home, run: int, after: float) -> list[tuple[int, str]]:
    """Let a writer work, kill it ``after`` seconds, and return the versions it acknowledged."""
    pid, pipe = fork(write_on(home, run))
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself: its traceback is above"
    with open(pipe, encoding="utf-8") as acknowledged:
        lines = [line.split() for line in acknowledged if line.endswith("\n")]
    return [(int(number), digest) for number, digest in lines]


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kill_9(home: Home) -> None:
    """Writers are killed at any moment, the making of the database included. Afterwards the database is whole, every acknowledged
    version is there with a whole package, numbers have no gap, and the next writer goes on at once.
    """
    chance = random.Random(7)
    acknowledged: dict[int, str] = {}
    deadline = time.monotonic() + SECONDS
    kills = 0
    while time.monotonic() < deadline:
        # The first ones die while they make the database.
        after = chance.uniform(0.0, 0.4) if kills > 20 else kills * 0.02
        for number, digest in kill_one(home, kills, after):
            assert number not in acknowledged
            acknowledged[number] = digest
        kills += 1
    assert kills > 20
    assert len(acknowledged) > 20
    begun = time.monotonic()
    with open_registry(home) as registry:
        assert time.monotonic() - begun < 5
        versions = registry.versions("fraud")
        assert [version.number for version in versions] == list(range(1, len(versions) + 1))
        assert acknowledged.items() <= {version.number: version.digest for version in versions}.items()
        for version in versions:
            registry.store.verify(version.digest)
        for digest in registry.store.digests():
            registry.store.verify(digest)
        newest = registry.version("fraud@newest")
        assert newest.number >= max(acknowledged)
        assert registry.alias_history("fraud")[-1].version == newest.number
    with sqlite3.connect(home.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_many_processes_register_without_a_gap(home: Home) -> None:
    """Ten processes open a new home at once and register five packages each under one name: fifty versions, no gap, no error."""

    def work(pipe: int) -> None:
        with registry_of(home, SystemClock()) as registry:
            for number in range(5):
                version, new = registry.register("fraud", store(registry, b"%d.%d" % (os.getpid(), number)))
                assert new
                os.write(pipe, f"{version.number}\n".encode())

    processes = [fork(work) for _ in range(10)]
    numbers: list[int] = []
    for pid, pipe in processes:
        with open(pipe, encoding="utf-8") as acknowledged:
            numbers += [int(line) for line in acknowledged]
        assert os.waitpid(pid, 0)[1] == 0, "a process failed: its traceback is above"
    assert sorted(numbers) == list(range(1, 51))
    with open_registry(home) as registry:
        assert [version.number for version in registry.versions("fraud")] == list(range(1, 51))


def test_many_processes_store_the_same_package(home: Home) -> None:
    """Whoever is first, all get the same digest, and the package is there once and whole."""

    def work(pipe: int) -> None:
        with registry_of(home, SystemClock()) as registry:
            os.write(pipe, store(registry, b"same").encode())

    processes = [fork(work) for _ in range(8)]
    digests = set()
    for pid, pipe in processes:
        with open(pipe, encoding="utf-8") as stored:
            digests.add(stored.read())
        assert os.waitpid(pid, 0)[1] == 0, "a process failed: its traceback is above"
    with open_registry(home) as registry:
        assert set(registry.store.digests()) == digests
        registry.store.verify(digests.pop())
    assert len(list(home.store.iterdir())) == 1
