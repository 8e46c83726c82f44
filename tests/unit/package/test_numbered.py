"""Numbered versions in a folder, and which of them a policy serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import PackageError
from headgate.package.folders.triton.format import MODEL_CONFIG
from headgate.package.numbered import left_out, misnumbered, numbered, served


def policy(text: str) -> object:
    """The version policy that ``text`` says."""
    return MODEL_CONFIG.parse(f"version_policy {{ {text} }}" if text else "", "config.pbtxt").version_policy


def test_what_is_a_version(tmp_path: Path) -> None:
    """Folders called by a number are versions, in numeric order; files, zeros and words are none, and what looks like one is told."""
    for name in ("10", "9", "01", "0", "latest", "-1", "99999999999999999999"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").write_text("a file")
    assert list(numbered(tmp_path)) == [9, 10]
    assert misnumbered(tmp_path, numbered(tmp_path)) == ["0", "01", "99999999999999999999"]


def test_numbers_with_leading_zeros(tmp_path: Path) -> None:
    """Where they are usual, they are numbers as others are; the same number twice is refused."""
    for name in ("00000123", "0", "7"):
        (tmp_path / name).mkdir()
    found = numbered(tmp_path, padded=True)
    assert {number: path.name for number, path in found.items()} == {7: "7", 123: "00000123"}
    assert misnumbered(tmp_path, found) == ["0"]
    (tmp_path / "007").mkdir()
    with pytest.raises(PackageError, match="007 and 7 are the same version"):
        numbered(tmp_path, padded=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (7,)),
        ("latest { }", (7,)),
        ("latest { num_versions: 2 }", (3, 7)),
        ("latest { num_versions: 9 }", (1, 3, 7)),
        ("all { }", (1, 3, 7)),
        ("specific { versions: [ 3, 1, 3 ] }", (1, 3)),
    ],
)
def test_policies(text: str, expected: tuple[int, ...]) -> None:
    """The newest one unless said otherwise; so many of the newest; all; or those that are named."""
    assert served(policy(text), [3, 7, 1], "fraud") == expected


def test_no_policy_is_the_newest() -> None:
    """A folder without any settings serves its newest version."""
    assert served(None, [3, 7, 1], "fraud") == (7,)


@pytest.mark.parametrize("text", ["specific { versions: 8 }", "specific { }"])
def test_versions_that_are_not_there_are_refused(text: str) -> None:
    """A version that is asked for by its number must be there: it would be missed by its clients."""
    with pytest.raises(PackageError, match=r"^fraud: the version policy 'specific'"):
        served(policy(text), [1, 2], "fraud")


def test_an_empty_folder_is_refused() -> None:
    """There is nothing to serve."""
    with pytest.raises(PackageError, match=r"^fraud: there is no version in it"):
        served(None, [], "fraud")


def test_what_is_left_out_is_said() -> None:
    """Versions that the policy does not serve are named once, however many there are."""
    assert left_out([1, 2], [1, 2]) == []
    assert left_out([1, 2, 3], [3]) == ["of the versions there, [1, 2] are left out: the version policy serves [3]"]
    assert "and others" in left_out(range(1, 20), [19])[0]
