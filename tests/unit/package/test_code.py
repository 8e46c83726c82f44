"""Which files go along with Python code."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import NotFound, PackageError
from headgate.package.code import code_files


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_local_imports_go_along(tmp_path: Path) -> None:
    """Modules and packages beside the file are followed, relative and nested imports too; installed and unused ones are not."""
    write(
        tmp_path,
        {
            "ranker.py": "import numpy, features\nfrom lib.deep import model as m\ndef f():\n    import late\n",
            "features.py": "from lib import names\n",
            "late.py": "import ranker\n",
            "unused.py": "",
            "lib/__init__.py": "",
            "lib/names.py": "from . import words\nfrom .deep.model import x\n",
            "lib/words.py": "",
            "lib/unused.py": "",
            "lib/deep/__init__.py": "from .. import up\n",
            "lib/deep/model.py": "x = 1\n",
            "lib/up.py": "",
            ".env": "SECRET=1",
            "notes.txt": "",
        },
    )
    assert list(code_files(tmp_path / "ranker.py")) == [
        "features.py",
        "late.py",
        "lib/__init__.py",
        "lib/deep/__init__.py",
        "lib/deep/model.py",
        "lib/names.py",
        "lib/up.py",
        "lib/words.py",
        "ranker.py",
    ]


def test_includes_keep_their_place(tmp_path: Path) -> None:
    """An included file or folder lies in the package as it does beside the code; one from elsewhere is put beside it."""
    write(
        tmp_path,
        {"src/ranker.py": "", "src/data/a.bin": "1", "src/data/sub/b.bin": "2", "src/data/.hidden": "3", "words/list.txt": "4"},
    )
    write(tmp_path, {"src/data/__pycache__/x.pyc": "", "one.txt": ""})
    found = code_files(tmp_path / "src" / "ranker.py", [tmp_path / "src" / "data", tmp_path / "words", tmp_path / "one.txt"])
    assert list(found) == ["data/a.bin", "data/sub/b.bin", "one.txt", "ranker.py", "words/list.txt"]


def test_the_folder_itself_may_be_included(tmp_path: Path) -> None:
    """``--include .`` means everything beside the code, less what is hidden."""
    write(tmp_path, {"ranker.py": "", "a.bin": "", ".git/config": "", "sub/b.bin": ""})
    assert list(code_files(tmp_path / "ranker.py", [tmp_path])) == ["a.bin", "ranker.py", "sub/b.bin"]


@pytest.mark.parametrize("secret", ["server.key", "id_rsa", "prod.env", "credentials.json", "TLS.PEM"])
def test_secrets_are_not_swept_in(secret: str, tmp_path: Path) -> None:
    """A folder with what looks like a secret is refused by name; the file goes along when it is itself named."""
    write(tmp_path, {"ranker.py": "", f"data/{secret}": ""})
    with pytest.raises(PackageError, match="looks like a secret"):
        code_files(tmp_path / "ranker.py", [tmp_path / "data"])
    assert f"data/{secret}" in code_files(tmp_path / "ranker.py", [tmp_path / "data" / secret])


def test_links_must_not_lead_out(tmp_path: Path) -> None:
    """A link to a file elsewhere is refused, whether it is a module, an include or within an included folder; one inside is taken."""
    write(tmp_path, {"src/ranker.py": "import evil", "src/data/a.bin": "1", "outside.py": ""})
    (tmp_path / "src" / "evil.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(PackageError, match=r"evil\.py: a link that leads out"):
        code_files(tmp_path / "src" / "ranker.py")
    (tmp_path / "src" / "evil.py").unlink()
    (tmp_path / "src" / "data" / "same").symlink_to("a.bin")
    assert "data/same" in code_files(tmp_path / "src" / "ranker.py", [tmp_path / "src" / "data"])
    (tmp_path / "src" / "data" / "link").symlink_to(tmp_path / "outside.py")
    for include in ("data", "data/link"):
        with pytest.raises(PackageError, match="a link that leads out"):
            code_files(tmp_path / "src" / "ranker.py", [tmp_path / "src" / include])


def test_a_missing_include_is_said(tmp_path: Path) -> None:
    """With the name that was probably meant."""
    write(tmp_path, {"ranker.py": "", "weights.npy": ""})
    with pytest.raises(NotFound, match=r"did you mean 'weights\.npy'"):
        code_files(tmp_path / "ranker.py", [tmp_path / "weight.npy"])


def test_two_files_of_one_path_are_refused(tmp_path: Path) -> None:
    """An include from elsewhere does not silently replace a module."""
    write(tmp_path, {"src/ranker.py": "import words", "src/words.py": "", "words.py": ""})
    with pytest.raises(PackageError, match=r"words\.py is in the package already"):
        code_files(tmp_path / "src" / "ranker.py", [tmp_path / "words.py"])
