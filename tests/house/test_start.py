"""Starting costs nothing: what ``import headgate`` and ``headgate --help`` load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "msgspec",
    "pandas",
    "sqlalchemy",
    "alembic",
    "starlette",
    "uvicorn",
    "httpx",
    "asyncio",
    "onnxruntime",
    "sklearn",
    "torch",
)


def loaded_after(code: str) -> set[str]:
    """Return the heavy modules in ``sys.modules`` after a fresh Python has run ``code``."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(HEAVY) & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import headgate",
        "import headgate.errors, headgate.plugins, headgate.home",
        "import headgate.supervisor",
        "from headgate.cli.main import main; main(['--help'])",
        "from headgate.cli.main import main; main(['serve', '--help'])",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    """Neither NumPy nor msgspec nor a framework nor anything that is made of them."""
    assert loaded_after(code) == set()


def test_listing_a_shelf_loads_no_framework() -> None:
    """Loading every runtime's file, as packaging does to ask who claims a model, imports no framework and no msgspec."""
    code = "from headgate import plugins; list(plugins.load_all('headgate.runtimes'))"
    assert loaded_after(code) <= {"numpy", "asyncio"}


def test_help_is_help() -> None:
    """``headgate --help`` names the commands and ends with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "headgate.cli.main", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
