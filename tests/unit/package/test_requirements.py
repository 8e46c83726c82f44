"""Requirements as they go into a package, and pip's settings as uv is told them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import EnvironmentFailed, NotFound
from headgate.package import pip_settings
from headgate.package.environment import read_requirements


def test_included_files_stand_in_their_place(tmp_path: Path) -> None:
    """A package holds one file that says it all, so that its digest covers it all."""
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("# ours\nsix==1.16.0  \n-r more/base.txt # base\npandas; python_version > '3'\n")
    (tmp_path / "more" / "base.txt").write_bytes(b"\xef\xbb\xbfnumpy<2\r\n--requirement=deep.txt\r\n")
    (tmp_path / "more" / "deep.txt").write_text("scipy\n")
    assert read_requirements(tmp_path / "requirements.txt").splitlines() == [
        "# ours", "six==1.16.0", "numpy<2", "scipy", "pandas; python_version > '3'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-e .", "editable"),
        ("--editable=src", "editable"),
        ("-c pins.txt", "constraints"),
        ("./wheels/x.whl", "local path"),
        ("x @ file:///wheels/x.whl", "local path"),
        ("x @ ../x", "local path"),
        ("--find-links wheels", "folder of this machine"),
        ("--index-url https://me:hunter2@index.example/simple", "password"),
        ("-r requirements.txt", "includes itself"),
    ],
)
def test_lines_that_mean_something_else_elsewhere_are_refused(line: str, said: str, tmp_path: Path) -> None:
    """The refusal names file and line, and never shows a password."""
    (tmp_path / "requirements.txt").write_text(f"six\n{line}\n")
    with pytest.raises(EnvironmentFailed, match=said) as caught:
        read_requirements(tmp_path / "requirements.txt")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://index.example/cpu",
        "--index-url https://me:${TOKEN}@index.example",
        "git+ssh://git@example.com/x.git",
        "x==1 \\\n --hash=sha256:00",
    ],
)
def test_lines_that_travel_are_taken(line: str, tmp_path: Path) -> None:
    """Indexes by URL, variables in place of passwords and hashes stay as they are."""
    (tmp_path / "requirements.txt").write_text(line)
    assert read_requirements(tmp_path / "requirements.txt") == f"{line}\n"


def test_what_is_no_requirements_file(tmp_path: Path) -> None:
    """Missing and binary files are said."""
    with pytest.raises(NotFound, match=r"nothing\.txt"):
        read_requirements(tmp_path / "nothing.txt")
    (tmp_path / "r.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EnvironmentFailed, match="not UTF-8"):
        read_requirements(tmp_path / "r.txt")


LISTING = """\
:env:.find-links='/wheels'
global.find-links='/other'
global.index-url='https://index.example/simple'
global.extra-index-url='https://a.example https://b.example'
install.index-url='https://strong.example/simple'
global.no-input=nonsense(
freeze.user='true'
"""


def test_pip_config_is_read_by_strength() -> None:
    """The environment wins over ``[install]``, and that over ``[global]``; sections of other commands do not count."""
    assert pip_settings.parse_settings(LISTING) == {
        "find-links": "/wheels",
        "index-url": "https://strong.example/simple",
        "extra-index-url": "https://a.example https://b.example",
    }


def test_uv_is_told_what_pip_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Index, further indexes, folders of wheels (those that are there); what is set for uv is left alone."""
    settings = pip_settings.parse_settings(LISTING) | {"find-links": f"{tmp_path} {tmp_path}/nowhere https://w.example"}
    monkeypatch.setattr(pip_settings, "_pip_settings", lambda: settings)
    assert pip_settings.uv_variables({}) == {
        "UV_DEFAULT_INDEX": "https://strong.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},https://w.example",
    }
    own = {"UV_INDEX_URL": "https://mine.example", "UV_FIND_LINKS": "/mine"}
    assert pip_settings.uv_variables(own) == {}
