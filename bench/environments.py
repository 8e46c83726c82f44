"""Python environments of the peers: .envs/bench-<name>-<hash of what is in them>, made by uv, kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVS = ROOT / ".envs"
DEBIAN_PYTHON = "/usr/bin/python3"


class NotInstallable(RuntimeError):
    """A peer could not be installed here; the text is the last of what uv said."""


def uv() -> str:
    """The uv of the environment that runs the benchmark, else the one on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise NotInstallable("uv is not installed; run make setup first")
    return found


@cache
def pip_settings() -> dict[str, list[str]]:
    """What pip is configured with (indexes and folders of wheels): uv does not read pip's configuration."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    settings: dict[str, list[str]] = {}
    for line in asked.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in ("index-url", "extra-index-url", "find-links", "cert"):
            settings.setdefault(key, []).extend(value.strip("'\"").replace("\\n", " ").split())
    return settings


def uv_options() -> list[str]:
    """pip's indexes and folders as uv's options."""
    options: list[str] = []
    for key in ("index-url", "extra-index-url", "find-links"):
        values = dict.fromkeys(pip_settings().get(key, []))
        # A setting that stands in the environment and in a file is one setting: the first one is pip's choice.
        for value in list(values)[: 1 if key == "index-url" else None]:
            options += [f"--{key}", value]
    # pip takes the best version of all indexes; uv by itself stops at the first index that knows the name.
    return options + (["--index-strategy", "unsafe-best-match"] if "--extra-index-url" in options else [])


def uv_environment() -> dict[str, str]:
    """This process's environment, with pip's certificate bundle for uv where one is set."""
    env = dict(os.environ)
    for cert in pip_settings().get("cert", [])[:1]:
        env.setdefault("SSL_CERT_FILE", cert)
    return env


def key(requirements: tuple[str, ...], python: str) -> str:
    return hashlib.sha256(json.dumps([sorted(requirements), python]).encode()).hexdigest()[:12]


def environment(name: str, requirements: tuple[str, ...], python: str = DEBIAN_PYTHON) -> Path:
    """The Python of an environment that holds the requirements; made when there is none yet.

    Raises NotInstallable with uv's reason.
    """
    folder = ENVS / f"bench-{name}-{key(requirements, python)}"
    interpreter = folder / "bin" / "python"
    if (folder / ".complete").exists():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    ENVS.mkdir(exist_ok=True)
    print(f"bench: making the environment of {name} ...", file=sys.stderr, flush=True)
    run([uv(), "venv", "--quiet", "--python", python if Path(python).exists() else sys.executable, str(folder)])
    run([uv(), "pip", "install", "--quiet", "--python", str(interpreter), *uv_options(), *requirements])
    (folder / ".complete").touch()
    return interpreter


def run(argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, env=uv_environment(), capture_output=True, text=True, check=False, timeout=900)
    except subprocess.TimeoutExpired:
        raise NotInstallable(f"{argv[1]} took longer than 15 minutes") from None
    if done.returncode != 0:
        raise NotInstallable(" ".join(done.stderr.split())[-400:])
