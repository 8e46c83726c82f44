"""Describing through the bootstrap, in the environments in which models really run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest
from runtime_samples import BOOTSTRAP, ROOT, bootstrap, python_of, samples_of

from headgate import plugins

FRAMEWORKS = [name for name, runtime in plugins.load_all("headgate.runtimes") if runtime.requires]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
slow = pytest.mark.slow


def write(path: Path, source: str) -> Path:
    path.write_text(textwrap.dedent(source))
    return path


def test_a_python_model_where_there_is_only_numpy(tmp_path: Path, describe) -> None:
    """The server's packages do not leak in; Headgate's replica side, the code beside the model, and its threads do."""
    write(tmp_path / "beside.py", "WORD = 'beside'\n")
    source = """
    import importlib.util, os, sys
    import beside
    import numpy
    from headgate.runtimes.base import InvalidInput

    assert [name for name in ("msgspec", "httpx", "sqlalchemy", "pytest") if importlib.util.find_spec(name)] == []
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.path.dirname(os.path.dirname(sys.modules["headgate"].__file__)) not in sys.path
    assert os.path.dirname(sys.modules["headgate.serving.describe"].__file__) not in sys.path

    class Model:
        idempotent = True
        def predict(self, x: float) -> str:
            return beside.WORD
    """
    answer = describe("python", write(tmp_path / "model.py", source), "Model")
    assert answer.get("error") is None
    assert answer["signature"] == {
        "inputs": [{"name": "x", "dtype": "FP64", "shape": [-1]}],
        "outputs": [{"name": "output", "dtype": "BYTES", "shape": [-1]}],
        "batched": True,
        "parameters": False,
    }
    assert answer["idempotent"] is True
    assert answer["platform"] == "python"
    assert 0 <= answer["load_seconds"] < 60


def test_what_models_print_and_leave_running_disturbs_nothing(tmp_path: Path, describe) -> None:
    source = """
    import os, sys, threading, time
    print("hello")
    class Model:
        def load(self):
            os.write(1, b"{}\\n")
            threading.Thread(target=time.sleep, args=(1000,)).start()
        def predict(self, x: int) -> int:
            print("predicting", file=sys.stdout)
            return x
    """
    assert describe("python", write(tmp_path / "m.py", source), "Model")["signature"]["batched"] is True


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("import nothing_like_this", "missing_dependency", "m.py needs the Python module 'nothing_like_this'"),
        ("raise OSError('no weights')", "unsupported_model", "m.py cannot be loaded as Python: OSError: no weights [m.py, line 1]"),
        ("def broken(:", "unsupported_model", "SyntaxError"),
        ("import sys; sys.exit(3)", "package_error", "SystemExit: 3"),
    ],
)
def test_what_loading_raises_is_a_refusal(tmp_path: Path, describe, body: str, code: str, said: str) -> None:
    error = describe("python", write(tmp_path / "m.py", body), "Model")["error"]
    assert error["code"] == code
    assert said in error["message"]


def test_an_example_makes_a_model_without_hints_known(tmp_path: Path, describe) -> None:
    path = write(tmp_path / "m.py", "class Model:\n    def predict(self, x, word):\n        return {'n': len(word), 'x2': x * 2}\n")
    refused = describe("python", path)["error"]
    assert refused["code"] == "package_error"
    assert "argument 'x' of predict has no type hint" in refused["message"]
    assert "--example FILE" in refused["message"]
    signature = describe("python", path, example=[{"x": 1.5, "word": "a"}, {"x": 2, "word": "bcd"}])["signature"]
    assert [spec["dtype"] for spec in signature["inputs"] + signature["outputs"]] == ["FP64", "BYTES", "INT64", "FP64"]
    assert "the example lacks the input 'word'" not in str(signature)


@pytest.mark.parametrize("runtime", FRAMEWORKS)
def test_a_missing_framework_says_what_installs_it(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x")
    done = bootstrap(python_of("python"), "describe", {"path": str(path), "runtime": runtime})
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "missing_dependency"
    assert f"pip install {plugins.load('headgate.runtimes', runtime).requires[0]}" in error["message"]
    assert "--requirements" in error["message"]


@pytest.mark.parametrize("runtime", FRAMEWORKS)
def test_beside_headgate_the_missing_framework_is_the_extras(tmp_path: Path, runtime: str) -> None:
    """In the server's own Python the command names what the extra requires, which pip finds wherever Headgate came from."""
    kind = plugins.load("headgate.runtimes", runtime)
    if importlib.util.find_spec(kind.requires[0]) is not None:
        pytest.skip(f"{runtime} is installed here")
    path = tmp_path / "model"
    path.write_bytes(b"x")
    done = bootstrap(Path(sys.executable), "describe", {"path": str(path), "runtime": runtime})
    message = json.loads(done.stdout)["error"]["message"]
    assert all(f" {shlex.quote(requirement)}" in message for requirement in EXTRAS[kind.extra])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("headgate.serve(Model)", "m.py, line 5: headgate.serve is called while the file is loaded as a model"),
        ("serve(Model, threads=1)", "Put the call under if __name__ == '__main__':"),
        ("if __name__ == '__main__': serve(Model)", None),
    ],
)
def test_a_file_that_serves_itself_is_refused(tmp_path: Path, describe, call: str, said: str | None) -> None:
    """Loading the file would start a server that loads the file: refused with what to do; what stands under __main__ is no matter."""
    body = "import headgate\nfrom headgate import serve\nclass Model:\n    def predict(self, x: int) -> int: return x\n"
    answer = describe("python", write(tmp_path / "m.py", f"{body}{call}\n"), "Model")
    if said is None:
        assert "signature" in answer, answer
    else:
        assert answer["error"]["code"] == "unsupported_model"
        assert said in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def load(self): open('stop.txt')\n    def predict(self, x: int) -> int: return x", "cannot be loaded as Python"),
        ("def predict(self, x: int): return len(open('stop.txt').read())", "cannot be run on made-up input"),
    ],
)
def test_a_file_that_was_not_packaged_says_how_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, describe, body: str, said: str
) -> None:
    """A relative path is one of the package, so what lies in the user's current folder is missed here and not in production."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stop.txt").write_text("the")
    (tmp_path / "package").mkdir()
    path = write(tmp_path / "package" / "m.py", f"class Model:\n    {body}\n")
    message = describe("python", path, "Model")["error"]["message"]
    assert said in message and "'stop.txt'" in message and "--include FILE" in message
    (tmp_path / "package" / "stop.txt").write_text("the")
    assert "signature" in describe("python", path, "Model")


def test_bootstrap_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, BOOTSTRAP, "dance"], capture_output=True, text=True, env={**os.environ, "HEADGATE_CONFIG": "{}"}
    )
    assert done.returncode == 2
    assert "usage: bootstrap.py replica|describe|conform" in done.stderr


@slow
def test_xgboost_refuses_categories_that_it_has_damaged(describe) -> None:
    error = describe("xgboost", samples_of("xgboost") / "umlaut.ubj")["error"]
    assert error["code"] == "unsupported_model"
    assert "hold letters outside ASCII, and XGBoost cuts such text when it saves" in error["message"]


@slow
def test_xgboost_says_of_a_cut_file_what_can_be_done(tmp_path: Path, describe) -> None:
    """One line that names the file and what to do, without the time and the place in XGBoost's own source."""
    cut = tmp_path / "cut.ubj"
    cut.write_bytes((samples_of("xgboost") / "iris.ubj").read_bytes()[:2000])
    message = describe("xgboost", cut)["error"]["message"]
    assert re.fullmatch(r"XGBoost cannot load cut\.ubj: [A-Z].*\. Is it damaged, .*\? Save or copy it again", message)
    assert ".cc" not in message


@slow
def test_torch_weights_without_a_model_are_refused(describe) -> None:
    error = describe("torch", samples_of("torch") / "weights.pt")["error"]
    assert error["code"] == "unsupported_model"
    assert "weights.pt holds weights (a state_dict) without their model" in error["message"]
    assert "torch.export.save(" in error["message"]


@slow
def test_torchscript_needs_an_example(describe) -> None:
    error = describe("torch", samples_of("torch") / "script.pt")["error"]
    assert error["code"] == "package_error"
    assert "does not say what shapes and dtypes it takes" in error["message"]
    assert "--example FILE" in error["message"]


@slow
def test_which_torch_files_run_code(tmp_path: Path) -> None:
    runs_code = plugins.load("headgate.runtimes", "torch").runs_code
    folder = samples_of("torch")
    assert {name: runs_code(folder / name) for name in ("digits.pt2", "script.pt", "pickled.pt", "weights.pt")} == {
        "digits.pt2": False,
        "script.pt": False,
        "pickled.pt": True,
        "weights.pt": True,
    }
    for member in ("m/data/constants/opaque_obj_0", "m/data/aotinductor/m/m.so"):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
            archive.writestr(member, b"")
        assert runs_code(tmp_path / "m.pt2")


@slow
def test_an_exported_program_with_a_pickle_inside_does_not_run_it(tmp_path: Path, describe) -> None:
    """PyTorch itself would fall back to unpickling the sample inputs."""
    evil = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    source = samples_of("torch") / "digits.pt2"
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(tmp_path / "digits.pt2", "w") as changed:
        for member in archive.namelist():
            data = archive.read(member)
            changed.writestr(member, evil if "sample_inputs" in member else data)
    describe("torch", tmp_path / "digits.pt2")
    assert not (tmp_path / "ran").exists()
