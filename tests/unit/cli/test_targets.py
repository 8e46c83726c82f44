"""What a user names to be served, judged without loading anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli.targets import check, is_address, looks_like_path
from headgate.errors import NotFound


@pytest.mark.parametrize("target", ["models:/wine@champion", "models:/wine/3", "runs:/0123/model", "s3://bucket/model"])
def test_an_address_is_left_to_whoever_fetches_it(target: str) -> None:
    """It is no reference, and there need be no such file."""
    assert is_address(target)
    assert looks_like_path(target)
    check(target)


@pytest.mark.parametrize("target", ["fraud.onnx", "ranker.py:Ranker", "folder/model.onnx", "wine@champion", "C:model"])
def test_what_is_no_address(target: str) -> None:
    """A file that is not there is said at once."""
    assert not is_address(target)
    with pytest.raises(NotFound, match="there is no such file or folder"):
        check(target)


def test_a_file_comes_before_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be called anything."""
    (tmp_path / "models:").mkdir()
    (tmp_path / "models:" / "wine").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert not is_address("models:/wine")
    check("models:/wine")
