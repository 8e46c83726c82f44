"""Where pip finds packages, said to uv.

uv does not read pip's configuration, so a machine that is set up for pip (an index of its own, a folder of wheels, a certificate)
would fail or fetch from elsewhere. What the user has set for uv itself is never replaced.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

_SECTIONS = ("global", "install", ":env:")
"""Of ``pip config list``, from the weakest to the strongest."""


def uv_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make uv look where pip looks, less those that ``environ`` sets for uv already."""
    settings = _pip_settings()
    said = {name: settings.get(name, "").split() for name in ("index-url", "extra-index-url", "find-links", "trusted-host", "cert")}
    variables = {
        "UV_DEFAULT_INDEX": " ".join(said["index-url"]),
        "UV_INDEX": " ".join(said["extra-index-url"]),
        "UV_FIND_LINKS": ",".join(link for link in said["find-links"] if "://" in link or os.path.isdir(os.path.expanduser(link))),
        "UV_INSECURE_HOST": " ".join(said["trusted-host"]),
        "SSL_CERT_FILE": " ".join(said["cert"]),
    }
    if any(name in environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")):
        variables |= {"UV_DEFAULT_INDEX": "", "UV_INDEX": ""}
    elif variables["UV_INDEX"]:
        # To pip all its indexes are equal; uv would take a package only from the first that has it.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in variables.items() if value and name not in environ}


def parse_settings(listing: str) -> dict[str, str]:
    """Return what ``pip config list`` printed, by the name of the setting; the environment wins over files."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in _SECTIONS:
            continue
        try:
            value = str(ast.literal_eval(quoted))
        except (SyntaxError, ValueError):
            continue
        rank = _SECTIONS.index(section)
        if rank >= found.get(name, (0, ""))[0]:
            found[name] = rank, value
    return {name: value for name, (_, value) in found.items()}


@cache
def _pip_settings() -> dict[str, str]:
    """Ask pip, or where there is none, its variables alone."""
    beside = shutil.which("pip") or shutil.which("pip3")
    for command in ([sys.executable, "-m", "pip"], [beside] if beside else []):
        if command:
            done = subprocess.run([*command, "config", "list"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return parse_settings(done.stdout)
    return {name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name.startswith("PIP_")}
