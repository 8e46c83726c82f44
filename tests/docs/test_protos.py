"""The committed descriptors are what their ``.proto`` files say, and those say what was published."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def protos() -> ModuleType:
    """The tool that compiles them."""
    tools = str(ROOT / "tools")
    sys.path.insert(0, tools)
    try:
        location = importlib.util.spec_from_file_location("headgate_protos", ROOT / "tools" / "protos.py")
        assert location is not None
        assert location.loader is not None
        module = importlib.util.module_from_spec(location)
        location.loader.exec_module(module)
    finally:
        sys.path.remove(tools)
    return module


def test_the_descriptors_are_in_step(protos: ModuleType) -> None:
    """Nobody edits a ``.proto`` file and forgets ``make protos``."""
    try:
        protos.compiler()
    except subprocess.CalledProcessError:
        pytest.skip("the compiler cannot be installed here: python tests/environments/build.py protos says why")
    assert not [str(path.relative_to(ROOT)) for path in protos.stale()], "out of step: run make protos"


def test_every_folder_with_messages_is_compiled(protos: ModuleType) -> None:
    """What a protocol or a folder format loads beside itself was made from ``.proto`` files that are there, too."""
    loaded = [path for shelf in protos.SHELVES for path in shelf.glob("*/*.binpb")]
    assert {path.parent for path in loaded} == set(protos.folders())
    assert {path.name for path in loaded} == {protos.NAME}
