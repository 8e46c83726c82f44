"""Run the test suites one after the other: ``tests/run.py [SUITE...] [--long]``.

A suite is a folder below ``tests/`` with test files in it; a new one is found by listing. Each runs in a pytest of its own, so that
what one of them leaves in its process cannot help or hurt the next. At the end the time of each is printed.

``--long`` runs only the tests marked ``long``, which are left out otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
FIRST = (
    "house", "unit", "property", "judge", "rollouts", "conformance", "runtimes", "process", "fault", "models", "clients", "docs",
)  # fmt: skip
"""The order in which suites run, cheap ones first; those not named here follow by name."""
ENVIRONMENTS = TESTS / "environments"
WITHOUT_ENVIRONMENTS = frozenset({"house", "unit", "property", "judge", "rollouts"})
"""Suites that need none of them: on their own they start at once."""
NO_TESTS = 5
"""pytest's exit code when nothing was selected: all tests of the suite are long, or none is."""

sys.path.insert(0, str(ROOT / "tools"))
from setup import uv_variables  # noqa: E402  (the path is only known now)


class Outcome(NamedTuple):
    """How one suite went."""

    suite: str
    seconds: float
    code: int
    summary: str

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.code in (0, NO_TESTS)


def suites() -> list[str]:
    """Return the names of all suites, in the order they run."""
    found = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS}
    return sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def run_suite(suite: str, long: bool, environment: dict[str, str]) -> Outcome:
    """Run one suite, passing its output on as it comes."""
    print(f"\n=== {suite} {'(long tests) ' if long else ''}{'=' * (70 - len(suite))}", flush=True)
    options = ["--long", "-m", "long"] if long else []
    command = [sys.executable, "-m", "pytest", str(TESTS / suite), "-q", "--durations=3", "--durations-min=5", *options]
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        summary = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\d+ (passed|failed|errors?|skipped|deselected)\b|no tests ran", line):
                summary = line.strip().strip("=").strip()
    return Outcome(suite, time.monotonic() - begun, process.returncode, summary)


def build_environments(environment: dict[str, str]) -> bool:
    """Make the environments of heavy frameworks and foreign clients that are not there yet; False if one could not be made."""
    build = ENVIRONMENTS / "build.py"
    if not build.is_file():
        return True
    good = True
    listed = sorted(path.stem for path in ENVIRONMENTS.glob("*.txt"))
    for number, name in enumerate(listed, 1):
        begun = time.monotonic()
        print(f"environment {number}/{len(listed)}: {name} ... ", end="", flush=True)
        made = subprocess.run(
            [sys.executable, str(build), name], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        print(f"{'ready' if made.returncode == 0 else 'FAILED'} ({time.monotonic() - begun:.1f} s)", flush=True)
        if made.returncode:
            good = False
            print(made.stdout + made.stderr, file=sys.stderr)
    return good


def report(outcomes: list[Outcome]) -> None:
    """Print the time and the summary of each suite, then one line over all of them in pytest's words."""
    print(f"\n{'suite':<14}{'seconds':>9}  result")
    for outcome in outcomes:
        print(f"{outcome.suite:<14}{outcome.seconds:>9.1f}  {'ok    ' if outcome.passed else 'FAILED'}  {outcome.summary}")
    total: dict[str, int] = {}
    for outcome in outcomes:
        for count, word in re.findall(r"(\d+) (failed|passed|skipped|deselected|xfailed|xpassed|error)s?\b", outcome.summary):
            total[word] = total.get(word, 0) + int(count)
    words = ", ".join(f"{total[word]} {word}" for word in sorted(total, key=("failed error passed".split() + sorted(total)).index))
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(f"\n=== {words or 'no tests ran'} in {seconds:.2f}s ({int(seconds // 60)}:{int(seconds % 60):02d}) ===")


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; the exit code is 0 only if everything passed."""
    known = suites()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one of: {', '.join(known)}; default: all")
    parser.add_argument("--long", action="store_true", help="run only the tests marked long")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.suites) - set(known))
    if unknown:
        parser.error(f"there is no suite {', '.join(unknown)}; there are: {', '.join(known)}")
    environment = {**os.environ, **uv_variables()}
    chosen = [suite for suite in known if suite in asked.suites] or known
    built = WITHOUT_ENVIRONMENTS.issuperset(chosen) or build_environments(environment)
    outcomes = [run_suite(suite, asked.long, environment) for suite in chosen]
    report(outcomes)
    return 0 if built and all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
