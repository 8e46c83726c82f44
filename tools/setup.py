"""Make the virtual environment `.venv`: ``python3 tools/setup.py [demo | test]``.

It runs on a bare Debian 12 with nothing but Python 3.11 and pip, so it is standard library only, and it starts on old Pythons, to
say that they are too old. A second run with an unchanged `pyproject.toml` does nothing.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PROFILES = {
    "demo": ["--editable", ".[onnx,sklearn]", "--group", "demo"],
    "test": ["--editable", ".[onnx,sklearn]", "--group", "demo", "--group", "test"],
}
APT = {"test": ROOT / "tests" / "apt.txt"}
"""Debian packages a profile needs, one ``package command`` a line: installed where the command is missing."""

PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
}


def uv_variables(python=sys.executable):
    """Return the environment variables that make uv look where pip is configured to look; uv itself reads no pip configuration.

    Variables that are already set win.
    """
    listing = subprocess.run([str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        name = PIP_TO_UV.get(key.rpartition(".")[2].replace("_", "-"))
        value = " ".join(shlex.split(quoted)) if name else ""
        if name and value and name not in os.environ:
            found[name] = value.replace(" ", ",") if name == "UV_FIND_LINKS" else value
    if "UV_INDEX" in found and "UV_INDEX_STRATEGY" not in os.environ:
        # pip takes the best version of all its indexes; uv would stop at the first index that knows the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "SSL_CERT_FILE" not in {**os.environ, **found}:
        # Debian's pip trusts what the machine trusts; uv would trust only the authorities it was built with.
        found["UV_SYSTEM_CERTS"] = "true"
    return found


def main(arguments):
    """Make the environment for the profile named first, default ``demo``."""
    profile = arguments[0] if arguments else "demo"
    if profile not in PROFILES:
        return fail("there is no profile {!r}; it is one of: {}".format(profile, ", ".join(PROFILES)))
    if sys.version_info < (3, 11):
        return fail(
            "Headgate needs Python 3.11 or newer, this is {}. Say which one to take: make PYTHON=/path/to/python3.11".format(
                ".".join(map(str, sys.version_info[:3]))
            )
        )
    stamp = VENV / ".setup-{}".format(profile)
    key = fingerprint(profile)
    if PYTHON.exists() and stamp.is_file() and stamp.read_text() == key:
        return 0
    begun = time.monotonic()
    install_apt(wanted_apt(profile))
    make_venv()
    step("installing the packages of {!r} into .venv".format(profile))
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), *PROFILES[profile]]
    run(uv, env={**os.environ, **uv_variables()}, cwd=str(ROOT))
    for old in VENV.glob(".setup-*"):
        old.unlink()
    for done in covered(profile):
        (VENV / ".setup-{}".format(done)).write_text(fingerprint(done))
    step(".venv is ready ({:.0f} s)".format(time.monotonic() - begun))
    return 0


def covered(profile):
    """Return the profiles that are complete once ``profile`` is installed."""
    return [name for name, wanted in PROFILES.items() if set(wanted) <= set(PROFILES[profile])]


def fingerprint(profile):
    """Return what the environment depends on; when it changes, packages are installed again."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(Path(__file__).read_bytes())
    if profile in APT:
        digest.update(APT[profile].read_bytes())
    return digest.hexdigest()


def wanted_apt(profile):
    """Return the Debian packages that ``profile`` needs and that are missing."""
    listed = APT[profile].read_text().splitlines() if profile in APT else []
    pairs = [line.split("#")[0].split() for line in listed]
    return [pair[0] for pair in pairs if pair and shutil.which(pair[1]) is None]


def install_apt(packages):
    """Install Debian packages as root, or with sudo where there is one."""
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise SystemExit(fail("this needs the packages {}; install them and run it again".format(" ".join(packages))))
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    if sudo and shutil.which("sudo") is None:
        raise SystemExit(fail("this needs root, or sudo, once: apt-get install {}".format(" ".join(packages))))
    step("installing Debian packages: {}".format(" ".join(packages)))
    settings = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*sudo, *settings, "apt-get", "update", "-qq"], quiet=True)
    run([*sudo, *settings, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], quiet=True)


def make_venv():
    """Make `.venv` with uv in it, unless it is there; python3-venv is installed where Debian has left it out."""
    # One that was interrupted half-way has a Python and no pip: it is made again.
    if not (PYTHON.exists() and subprocess.run([str(PYTHON), "-c", "import pip"], check=False).returncode == 0):
        if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
            install_apt(["python{}.{}-venv".format(*sys.version_info)])
        step("making .venv with Python {}".format(".".join(map(str, sys.version_info[:3]))))
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if not (VENV / "bin" / "uv").exists():
        run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])


def run(command, quiet=False, **options):
    """Run ``command``; end with its text if it fails. A quiet one's output is shown only then."""
    if quiet:
        options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    result = subprocess.run(command, check=False, **options)
    if result.returncode:
        if quiet:
            sys.stderr.write(result.stdout.decode(errors="replace"))
        raise SystemExit(fail("this failed with exit code {}: {}".format(result.returncode, " ".join(map(str, command)))))


def step(text):
    """Say what happens now."""
    print("setup: " + text, flush=True)


def fail(text):
    """Say what went wrong; returns the exit code."""
    print("setup: " + text, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
