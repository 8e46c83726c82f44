"""The reference is what the code says, and it says everything."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from headgate import errors, spec
from headgate.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("commands.md", "settings.md", "errors.md", "metrics.md", "plugins.md")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The tool that writes the pages."""
    location = importlib.util.spec_from_file_location("headgate_reference", ROOT / "tools" / "reference.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def page(name: str) -> str:
    """Return the text of one page."""
    return (ROOT / "docs" / "reference" / name).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(reference: ModuleType, name: str) -> None:
    """Nobody edits a page by hand, and nobody forgets ``make docs``."""
    assert page(name) == reference.render(name), "out of date: run make docs"


def test_every_command_has_a_heading() -> None:
    """What can be typed can be looked up."""
    assert not [command for command in COMMANDS if f"\n## headgate {command}\n" not in page("commands.md")]


def test_every_setting_has_a_row_that_says_something() -> None:
    """A setting without a sentence is a riddle."""
    text = page("settings.md")
    for path in _paths(spec.DeploymentSpec):
        row = next((line for line in text.splitlines() if line.startswith(f"| `{path}` ")), None)
        assert row is not None, f"{path} has no row"


def _paths(kind: type[msgspec.Struct], prefix: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(kind):
        inner = field.type if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) else None
        found += _paths(inner, f"{prefix}{field.name}.") if inner else [f"{prefix}{field.name}"]
    return found


def test_every_error_has_a_row() -> None:
    """A code a client may see can be looked up."""
    kinds = [errors.HeadgateError]
    while kinds:
        kind = kinds.pop()
        kinds += [child for child in kind.__subclasses__() if child.__module__ == "headgate.errors"]
        assert f"\n| `{kind.code}` " in page("errors.md")


def test_every_metric_has_a_row() -> None:
    """Every name of a metric that stands in the source is in the table, so none is exported that cannot be looked up."""
    text = page("metrics.md")
    sources = sorted((ROOT / "src" / "headgate" / "serving").rglob("*.py"))
    names = {name for path in sources for name in re.findall(r'"(headgate_[a-z_]+)"', path.read_text())}
    assert names, "the gateway counts something"
    assert not [name for name in sorted(names) if f"| `{name}` " not in text]
