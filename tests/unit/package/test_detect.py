"""What a target is: by the shelf of runtimes, with a helpful refusal for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import NotFound, PackageError, UnsupportedModel, UntrustedPickle
from headgate.package.detect import default_name, detect
from headgate.spec import NAME

MODEL = "class Ranker:\n    def predict(self, x: float) -> float:\n        return x\n"


def test_a_bare_file(tmp_path: Path) -> None:
    """A model file is known by its ending, and named after itself."""
    (tmp_path / "fraud.onnx").write_bytes(b"\x08\x07")
    target = detect(str(tmp_path / "fraud.onnx"))
    assert (target.runtime, target.name, target.entry, target.runs_code) == ("onnx", "fraud", "fraud.onnx", False)


def test_a_class_in_a_file(tmp_path: Path) -> None:
    """``file.py:Class`` is taken as said; ``file.py`` where only one class has a method predict."""
    (tmp_path / "ranker.py").write_text(MODEL + "class Base:\n    pass\nclass _Hidden:\n    def predict(self): ...\n")
    for target in (detect(f"{tmp_path}/ranker.py:Ranker"), detect(f"{tmp_path}/ranker.py")):
        assert (target.runtime, target.attribute, target.entry, target.name) == ("python", "Ranker", "ranker.py:Ranker", "ranker")


@pytest.mark.parametrize(
    ("code", "attribute", "said"),
    [
        (MODEL, ":Ranker2", "did you mean 'Ranker'"),
        (MODEL + MODEL.replace("Ranker", "Other"), "", "ranker.py:Ranker or ranker.py:Other"),
        ("x = 1\n", "", "no class with a method predict"),
        ("class Ranker:\n", ":Ranker", "line 1"),
        ("a\0b", ":Ranker", "not Python"),
    ],
)
def test_a_class_that_is_not_there(code: str, attribute: str, said: str, tmp_path: Path) -> None:
    """The refusal says what to write instead; nothing of the file is run."""
    (tmp_path / "ranker.py").write_text(code)
    with pytest.raises(UnsupportedModel) as caught:
        detect(f"{tmp_path}/ranker.py{attribute}")
    assert said in str(caught.value)


def test_a_class_without_predict_is_refused_unread(tmp_path: Path) -> None:
    """Where the text alone says that there is no ``predict``, also by local bases, nothing is installed or run to find out."""
    (tmp_path / "m.py").write_text("class Base:\n    pass\nclass Model(Base, object):\n    def load(self): self.net.predict\n")
    with pytest.raises(UnsupportedModel, match=r"^m\.py:Model has no method predict\(self, \.\.\.\)$"):
        detect(f"{tmp_path}/m.py:Model")


@pytest.mark.parametrize(
    "code",
    [
        "from elsewhere import Base\nclass Model(Base): pass",
        "import elsewhere\nclass Model(elsewhere.Base): pass",
        "class Base:\n    async def predict(self, x: int) -> int: ...\nclass Model(Base): pass",
        "class Model:\n    predict = other",
        "class Model:\n    from elsewhere import predict",
        "class Model:\n    if True:\n        def predict(self, x: int) -> int: ...",
        "@elsewhere.model\nclass Model: pass",
        "class Model(metaclass=Meta): pass",
        "class Model: pass\nModel.predict = other",
        "class Model: pass\nsetattr(Model, 'predict', other)",
        "class Model: pass\nModel = wrapped(Model)",
        "class Model(Base): pass\nclass Base(Model): pass",
    ],
)
def test_a_class_that_may_have_predict_is_taken(code: str, tmp_path: Path) -> None:
    """What the text does not exclude is for the runtime to find out."""
    (tmp_path / "m.py").write_text(code)
    assert detect(f"{tmp_path}/m.py:Model").attribute == "Model"


def test_imported_classes_may_be_named(tmp_path: Path) -> None:
    """A class that the module imports or assigns is in it, also below an ``if`` or ``try``."""
    (tmp_path / "ranker.py").write_text(
        "try:\n    from models import Ranker\nexcept ImportError:\n    Ranker = None\nBest = Ranker\n"
    )
    assert detect(f"{tmp_path}/ranker.py:Ranker").attribute == "Ranker"
    assert detect(f"{tmp_path}/ranker.py:Best").attribute == "Best"


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl"])
def test_a_pickle_needs_trust(name: str, tmp_path: Path) -> None:
    """A pickle is refused with why and what to do, and taken with trust, which is remembered."""
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UntrustedPickle) as caught:
        detect(str(tmp_path / name))
    for word in ("run any code", "skops", "--trust-pickle"):
        assert word in str(caught.value)
    assert detect(str(tmp_path / name), trust_pickle=True).runs_code


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.onx", "did you mean '.onnx'"),
        ("model.safetensors", "weights only"),
        ("model", "without an ending"),
        ("model.qqq", "ONNX (.onnx)"),
    ],
)
def test_an_unknown_file(name: str, said: str, tmp_path: Path) -> None:
    """What nobody loads is refused with the nearest ending, advice, or what is known."""
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedModel) as caught:
        detect(str(tmp_path / name))
    assert said in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    """A missing file is said with the name that was probably meant; an empty one, and a folder of models, with what they are."""
    (tmp_path / "fraud.onnx").write_bytes(b"")
    with pytest.raises(NotFound, match=r"did you mean 'fraud\.onnx'"):
        detect(str(tmp_path / "fruad.onnx"))
    with pytest.raises(NotFound, match="no folder"):
        detect(str(tmp_path / "nowhere" / "fraud.onnx"))
    with pytest.raises(UnsupportedModel, match="0 bytes"):
        detect(str(tmp_path / "fraud.onnx"))
    with pytest.raises(UnsupportedModel, match=r"it holds fraud\.onnx: name that file"):
        detect(str(tmp_path))
    with pytest.raises((PackageError, NotFound)):
        detect("")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("fraud.onnx", "fraud"),
        ("my model (1).onnx", "my-model-1"),
        ("größe.onnx", "gr-e"),
        ("_x.onnx", "x"),
        ("v1.2.onnx", "v1.2"),
        ("日本.onnx", "model"),
        ("a" * 200 + ".onnx", "a" * 128),
    ],
)
def test_names_are_made_legal(file: str, name: str) -> None:
    """Whatever a file is called, the model gets a name that the registry takes."""
    assert default_name(Path("/x") / file) == name
    assert NAME.fullmatch(name)


def test_a_numbered_folder_is_named_after_its_parent(tmp_path: Path) -> None:
    """TensorFlow Serving's layout ``fraud/1`` is called fraud."""
    (tmp_path / "fraud" / "1").mkdir(parents=True)
    assert default_name(tmp_path / "fraud" / "1") == "fraud"
