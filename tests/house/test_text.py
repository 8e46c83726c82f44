"""The repository speaks of Headgate alone, and stands on its own."""

from __future__ import annotations

import re
import subprocess

from source import ROOT

MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:root|work|opt|Users|home/\w+|mnt|srv)/[\w.-]+")
"""A folder of somebody's machine. Folders every Linux has (/usr, /etc, /tmp, /proc, /dev, /run, /var) are not."""


def files() -> list[str]:
    """Return the paths of everything that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths() -> None:
    """No file names a folder of the machine it was written on: it would work there and nowhere else."""
    found = []
    for name in files():
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert not found


def test_nothing_large_is_committed() -> None:
    """Weights and results do not belong into the history: half a megabyte is enough for any text."""
    assert not [name for name in files() if (ROOT / name).stat().st_size > 512 * 1024]


def test_the_papers_are_there() -> None:
    """What a newcomer looks for is where he looks for it."""
    for name in ("README.md", "LICENSE", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/README.md", "Makefile"):
        assert (ROOT / name).is_file(), name
