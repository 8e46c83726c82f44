"""A disk without room, as the files of a home meet it; and standard output that leads to one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from headgate.errors import StorageFull
from headgate.home import Home, check_room, saying_full, write_atomically


def no_room(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_has_a_name() -> None:
    """What lies below the place that was written to is told by that place; another place by its own name. Other errors pass."""
    for path, named in (("/data/home/store/x", "/data/home"), ("/elsewhere/x", "/elsewhere/x"), (None, "/data/home")):
        with pytest.raises(StorageFull, match=f"the disk of {named}; nothing was stored"), saying_full(Path("/data/home")):
            raise OSError(errno.EDQUOT, "full", path)
    with pytest.raises(PermissionError), saying_full(Path("/data/home")):
        raise PermissionError(errno.EACCES, "not yours")


def test_a_file_that_finds_no_room_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old content stays and the disk is named. However often it fails, one file at most is left beside it, and the next use that."""
    path = tmp_path / "table.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_room)
        for _ in range(3):
            with pytest.raises(StorageFull, match=f"the disk of {path}"):
                write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_room_is_looked_for_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking leaves nothing behind, whether there is room or not."""
    check_room(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(StorageFull, match=f"the disk of {tmp_path}"):
        check_room(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_finds_no_room_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first folder that cannot be made says why."""
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: no_room())
    with pytest.raises(StorageFull, match="the disk of"):
        Home(tmp_path / "home").create()


def test_what_cannot_be_written_is_lost_and_no_more() -> None:
    """With standard output on a full disk, print costs its line and not its caller; what can be written is, line by line."""
    script = (
        "import sys; from headgate import streams; streams.never_fail()\n"
        "print('a', 'b'); print('gr\u00fc\u00df', '\\udce9', file=sys.stderr)\n"
        "sys.stdout.buffer.write(b'raw'); print('x' * 100_000, end='', flush=True)\n"
        "sys.stderr.write('no end of line'); sys.stderr.flush(); sys.exit(7)"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr.decode()) == (7, "gr\u00fc\u00df \\udce9\nno end of line")
        done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, check=False)
        assert (done.returncode, done.stdout) == (7, b"a b\nraw" + b"x" * 100_000)
