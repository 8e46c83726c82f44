"""The small things of the porch: ids, plugins, counters, homes."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from headgate import plugins
from headgate.clock import EventIds
from headgate.errors import Unsupported, by_code, did_you_mean
from headgate.home import Home, write_atomically
from headgate.telemetry import Counter, Family, Histogram
from headgate.testing.clock import ManualClock

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_ids_are_uuid7_unique_and_sorted() -> None:
    """Ids have the form of RFC 9562, are never drawn twice, and sort by the order they were drawn in, also past 4,096 a millisecond."""
    clock = ManualClock()
    ids = EventIds(clock, node=bytes(range(8)))
    drawn = [ids.next() for _ in range(10_000)]
    clock.advance(0.002)
    drawn += [ids.next() for _ in range(10)]
    assert all(UUID7.fullmatch(text) for text in drawn)
    assert len(set(drawn)) == len(drawn)
    assert drawn == sorted(drawn)


def test_shelves_are_listed_without_importing_what_is_on_them() -> None:
    """Every file but base is a plugin; an unknown name is refused with the likely one."""
    assert {"oip", "rows", "metrics", "docs"} <= set(plugins.names("headgate.protocols"))
    assert "base" not in plugins.names("headgate.protocols")
    with pytest.raises(Unsupported, match=r"did you mean 'onnx'\?"):
        plugins.load("headgate.runtimes", "onxx")


def test_what_an_extra_brings_can_be_installed() -> None:
    """The command is made of the requirements in pyproject.toml; for an extra nobody knows it names what the caller knows."""
    extras = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"onnx", "parquet"} <= extras.keys()
    for extra, wanted in extras.items():
        assert sorted(shlex.split(plugins.install_command(extra, "nothing"))) == sorted(["pip", "install", *wanted])
    assert plugins.install_command("onn", "onnxruntime") == "pip install onnxruntime"


def test_errors_cross_a_socket_by_their_code() -> None:
    """An error is rebuilt from its code and text; an unknown code is still an error of ours."""
    rebuilt = by_code("overloaded", "full")
    assert (rebuilt.status, str(rebuilt), rebuilt.retry_after) == (429, "full", 1.0)
    assert by_code("no such code", "text").status == 500
    assert did_you_mean("servee", ["serve", "status"]) == "; did you mean 'serve'?"


def test_exposition() -> None:
    """Counters and histograms are written in the Prometheus text format: cumulative buckets, sum, count, escaped labels."""
    counter = Family("c_total", "counter", "Things.", Counter)
    series = counter.series(name='a"b\n')
    assert isinstance(series, Counter)
    series.value += 2
    assert list(counter.lines()) == ["# HELP c_total Things.", "# TYPE c_total counter", 'c_total{name="a\\"b\\n"} 2']
    histogram = Family("h", "histogram", "Sizes.", lambda: Histogram((1, 2)))
    sizes = histogram.series()
    assert isinstance(sizes, Histogram)
    for value in (0.5, 1, 1.5, 9):
        sizes.observe(value)
    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1"} 2', 'h_bucket{le="2"} 3', 'h_bucket{le="+Inf"} 4', "h_sum 12", "h_count 4",
    ]  # fmt: skip


def test_retired_series_go() -> None:
    """Dropping a label's value drops its series and no others."""
    family = Family("c", "counter", "Things.", Counter)
    family.series(revision="a-1")
    family.series(revision="a-2")
    family.drop(revision="a-1")
    assert [line for line in family.lines() if not line.startswith("#")] == ['c{revision="a-2"} 0']


def test_homes_are_private_and_their_sockets_short(tmp_path: Path) -> None:
    """A home's folders are its user's alone; where its path is too long for a socket, the sockets lie in a short private folder."""
    deep = Home(tmp_path / ("x" * 120)).create()
    try:
        for folder in (deep.path, deep.run, deep.sockets):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert len(str(deep.gateway_socket)) < 100
        assert Home(tmp_path / "short").sockets.parent == (tmp_path / "short") or len(str(tmp_path)) > 80
    finally:
        deep.sockets.rmdir()


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    """A replaced file holds the new content and nothing temporary stays beside it."""
    path = tmp_path / "table.json"
    for content in (b"old", b"new"):
        write_atomically(path, content)
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.json"]
