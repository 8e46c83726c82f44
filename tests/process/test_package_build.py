"""From a target to a package folder, with a script in place of the replica side; the real one is asked in the process tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import EnvironmentFailed, PackageError, SpecError, UntrustedPickle
from headgate.home import Home
from headgate.package.build import Built, build
from headgate.package.example import read_example
from headgate.package.folder import regular_files, verify
from headgate.package.folders.base import VersionSource
from headgate.package.options import Options
from headgate.package.sources import find

Build = Callable[..., Built]
ANSWER = (
    "import json, os\nconfig = json.loads(os.environ['HEADGATE_CONFIG'])\nassert os.path.exists(config['path'])\n"
    "answer = {'signature': {'inputs': [], 'outputs': []}, 'idempotent': True, 'platform': config['runtime'], 'load_seconds': 0.1}\n"
)


@pytest.fixture
def run(tmp_path: Path) -> Build:
    """Builds a target into ``tmp_path/out<n>``, describing it by a script."""
    count = iter(range(100))

    def go(target: str | VersionSource, options: Options | None = None, script: str = "", **more: object) -> Built:
        (tmp_path / "bootstrap.py").write_text(ANSWER + script + "\nprint(json.dumps(answer))\n")
        folder = tmp_path / f"out{next(count)}"
        folder.mkdir()
        if isinstance(target, str):
            (model,) = find(target, options or Options(), tmp_path / "scratch", print)
            target = model.versions[0]
        return build(target, folder, Home(tmp_path / "home"), options, bootstrap=tmp_path / "bootstrap.py", **more)  # type: ignore[arg-type]

    return go


def test_a_file_becomes_a_package(run: Build, tmp_path: Path) -> None:
    """The package is whole and verifies; the same file gives the same digest, on another day and from another place."""
    (tmp_path / "fraud.txt").write_bytes(b"tree\nversion=v4\n")
    built = run(str(tmp_path / "fraud.txt"))
    assert (built.manifest and built.manifest.runtime, built.runs_code) == ("lightgbm", False)
    assert verify(tmp_path / "out0") == built.manifest
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "fraud.txt").rename(tmp_path / "elsewhere" / "fraud.txt")
    assert run(str(tmp_path / "elsewhere" / "fraud.txt")).digest == built.digest


def test_a_known_source_costs_no_work(run: Build, tmp_path: Path) -> None:
    """What was packaged before is found before it is loaded; ``relock`` does it all again."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    first = run(str(tmp_path / "m.onnx"))
    known = {first.source_digest: "sha256:before"}
    again = run(str(tmp_path / "m.onnx"), script="raise SystemExit('was loaded')", known=known.get)
    assert (again.digest, again.manifest) == ("sha256:before", None)
    assert run(str(tmp_path / "m.onnx"), Options(relock=True), known=known.get).digest == first.digest


def test_a_row_it_takes_is_kept_outside_the_source(run: Build, tmp_path: Path) -> None:
    """What describing found out for people to start from is in the package, and says nothing of where the package came from."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    plain = run(str(tmp_path / "m.onnx"))
    shown = run(str(tmp_path / "m.onnx"), script="answer['sample'] = {'city': 'Oslo'}")
    assert json.loads((tmp_path / "out1" / "sample.json").read_bytes()) == {"city": "Oslo"}
    assert verify(tmp_path / "out1") == shown.manifest
    assert (shown.source_digest, shown.digest != plain.digest) == (plain.source_digest, True)


def test_a_model_of_another_python(run: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that Python is not on this machine the server's own takes its place, which is said; a pickle is refused instead."""
    monkeypatch.setattr("headgate.package.environment.has_python", lambda _: False)
    monkeypatch.setattr("headgate.package.environment.lock", lambda folder, _: (folder / "pylock.toml").write_text("x"))
    monkeypatch.setattr("headgate.package.environment.python_of", lambda *_: Path(sys.executable))
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    plain = {"title": "m", "runtime": "onnx", "entry": "m.onnx", "files": {"m.onnx": tmp_path / "m.onnx"}, "origin": "mlflow"}
    said: list[str] = []
    built = run(VersionSource(**plain, requirements="six\n", python="3.2"), say=said.append)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert built.manifest is not None and built.manifest.python == own
    assert said[0] == f"m: made with Python 3.2, which is not on this machine; it is locked for, and runs with, Python {own}"
    with pytest.raises(EnvironmentFailed, match=r"m: made with Python 3\.2, and a pickle may mean something else"):
        run(VersionSource(**plain, requirements="six\n", python="3.2", runs_code=True))
    run(VersionSource(**plain, python="3.2"), say=said.append)
    assert "without requirements it runs in the server's own" in said[3]


def test_a_name_that_cannot_be_is_refused_before_any_work(run: Build, tmp_path: Path) -> None:
    """Nothing is loaded for a model that could not be registered; the refusal names the flag and what names are made of."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    said: list[str] = []
    with pytest.raises(SpecError, match="--name: expected 1 to 128 letters"):
        run(str(tmp_path / "m.onnx"), Options(name="bad name"), say=said.append)
    assert said == [] and list((tmp_path / "out0").iterdir()) == []


def test_the_copy_is_a_copy(run: Build, tmp_path: Path) -> None:
    """Writing into the original later does not change the package."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    run(str(tmp_path / "m.onnx"))
    with open(tmp_path / "m.onnx", "r+b") as file:
        file.write(b"\x08\x08")
    verify(tmp_path / "out0")


def test_code_goes_along_with_what_it_imports(run: Build, tmp_path: Path) -> None:
    """Python code is packaged with its local modules and what is included."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "ranker.py").write_text("import words\nclass Ranker:\n    def predict(self): ...\n")
    (tmp_path / "src" / "words.py").write_text("")
    (tmp_path / "src" / "list.txt").write_text("a")
    built = run(f"{tmp_path}/src/ranker.py", Options(include=(tmp_path / "src" / "list.txt",), name="best"))
    assert built.manifest is not None
    assert (built.manifest.entry, built.manifest.origin) == ("ranker.py:Ranker", "python")
    assert sorted(built.manifest.files) == ["list.txt", "ranker.py", "words.py"]


def test_a_folder_is_one_entry(run: Build, tmp_path: Path) -> None:
    """A SavedModel keeps its folder; a link in it is refused."""
    model = tmp_path / "mnist"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"x")
    (model / "variables" / "variables.index").write_bytes(b"y")
    built = run(str(model))
    assert built.manifest is not None
    assert (built.manifest.entry, sorted(built.manifest.files)) == (
        "mnist",
        ["mnist/saved_model.pb", "mnist/variables/variables.index"],
    )
    (model / "variables" / "link").symlink_to("/etc/passwd")
    with pytest.raises(PackageError, match="variables/link"):
        run(str(model))


def test_a_pickle_is_marked(run: Build, tmp_path: Path) -> None:
    """Without trust nothing is copied or loaded; with it the package says that it holds one."""
    (tmp_path / "m.joblib").write_bytes(b"x")
    with pytest.raises(UntrustedPickle):
        run(str(tmp_path / "m.joblib"), script="raise SystemExit('was loaded')")
    assert not regular_files(tmp_path / "out0")
    assert run(str(tmp_path / "m.joblib"), Options(trust_pickle=True)).runs_code


def test_a_model_must_not_write_into_itself(run: Build, tmp_path: Path) -> None:
    """What loading leaves in the folder would be in no manifest."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(PackageError, match=r"wrote cache\.bin"):
        run(str(tmp_path / "m.onnx"), script="open(os.path.join(os.path.dirname(config['path']), 'cache.bin'), 'w').close()")


def test_bytecode_is_no_part_of_a_package(run: Build, tmp_path: Path) -> None:
    """What Python compiles while it loads the code does not get into the manifest, nor stay in the folder."""
    (tmp_path / "ranker.py").write_text("class Ranker:\n    def predict(self): ...\n")
    script = "cache = os.path.dirname(config['path']) + '/__pycache__'\nos.mkdir(cache)\nopen(cache + '/ranker.pyc', 'w').close()"
    built = run(f"{tmp_path}/ranker.py", script=script)
    assert verify(tmp_path / "out0") == built.manifest
    assert list(regular_files(tmp_path / "out0" / "files")) == ["ranker.py"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("e.json", b'[{"age": 3, "city": "\xc3\xa4"}]', [{"age": 3, "city": "ä"}]),
        (
            "e.csv",
            b"\xef\xbb\xbfage,ratio,city\n3,0.5,Ulm\n4,1,7\n",
            [{"age": 3, "ratio": 0.5, "city": "Ulm"}, {"age": 4, "ratio": 1.0, "city": "7"}],
        ),
    ],
)
def test_examples_become_json(name: str, content: bytes, expected: object, run: Build, tmp_path: Path) -> None:
    """JSON and CSV become rows, and part of the package; the example changes the digest."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    (tmp_path / name).write_bytes(content)
    built = run(
        str(tmp_path / "m.onnx"), Options(example=tmp_path / name), script="assert config['example'].endswith('example.json')"
    )
    assert json.loads((tmp_path / "out0" / "example.json").read_bytes()) == expected
    assert verify(tmp_path / "out0") == built.manifest
    assert run(str(tmp_path / "m.onnx")).source_digest != built.source_digest


def test_an_array_keeps_its_dtype(tmp_path: Path) -> None:
    """A ``.npy`` file becomes a request with its dtype and shape; one with Python objects in it is refused, never unpickled."""
    np.save(tmp_path / "e.npy", np.ones((2, 3), np.float32))
    assert json.loads(read_example(tmp_path / "e.npy"))["inputs"] == [
        {"name": "", "datatype": "FP32", "shape": [2, 3], "data": [1.0] * 6}
    ]
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(PackageError, match=r"o\.npy: not NPY"):
        read_example(tmp_path / "o.npy")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.json", b"{"),
        ("e.json", b"3"),
        ("e.json", b"[]"),
        ("e.json", b"[" * 100_000),
        ("e.csv", b"a,b\n1\n"),
        ("e.csv", b"a\n1,2\n"),
        ("e.txt", b"x"),
    ],
)
def test_a_broken_example_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """With the name of the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PackageError, match=f"--example {name}"):
        read_example(tmp_path / name)
