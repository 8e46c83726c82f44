"""The documents do what they say: blocks marked ``run`` are run, links lead somewhere."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blocks import Block, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
STARTS_WITHIN = 60.0
"""Seconds until a server shown in a document answers ready."""


class Reader:
    """Somebody who types what a page shows: one folder, one home, two free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8080": free_port(), "8081": free_port()}
        self.server: subprocess.Popen[str] | None = None
        binaries = Path(sys.executable).parent
        self.environment = {**os.environ, "HEADGATE_HOME": str(folder / "home"), "PATH": f"{binaries}:{os.environ['PATH']}"}

    def run(self, block: Block) -> None:
        """Run one block; fails the test with the block's own output."""
        script = self.folder / f"block-{block.line}.{block.language}"
        script.write_text(self._prelude(block) + self._ported(block.code))
        command = [sys.executable, str(script)] if block.language == "python" else ["bash", str(script)]
        if block.serve:
            self.server = subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, start_new_session=True)
            return self._wait_until_ready(block)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"the block in line {block.line} failed:\n{block.code}\n{done.stdout}\n{done.stderr}"
        return None

    def stop(self) -> None:
        """Press Ctrl-C in the server's terminal."""
        if self.server is not None and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(timeout=60)

    def _prelude(self, block: Block) -> str:
        if block.language == "python":
            return ""
        inference, control = self.ports.values()
        # No load balancer has to notice: a page that says nothing else ends without the delay for one.
        own = f'if [ "$1" = serve ]; then set -- serve --drain-delay 0 "${{@:2}}" --port {inference} --control-port {control}; fi'
        return f'set -euo pipefail\nheadgate() {{ {own}; command headgate "$@"; }}\n'

    def _ported(self, code: str) -> str:
        return re.sub(r"\b(8080|8081)\b", lambda match: str(self.ports[match[0]]), code)

    def _wait_until_ready(self, block: Block) -> None:
        assert self.server is not None
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            assert self.server.poll() is None, f"the server of line {block.line} ended with exit code {self.server.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['8080']}/v2/health/ready", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        pytest.fail(f"the server of line {block.line} was not ready within {STARTS_WITHIN:.0f} s")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A reader, whose server is stopped at the end."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page: Path, tmp_path: Path) -> None:
    """Whoever copies the blocks of a page one after the other gets what it promises."""
    with reading(tmp_path) as reader:
        for block in blocks(page):
            reader.run(block)


def test_the_readme_is_run() -> None:
    """The first page is the one that must not lie."""
    assert blocks(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [
        target
        for target in targets
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert not missing


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page below docs."""
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert not [page for page in pages if page != "README.md" and f"({page})" not in index]
