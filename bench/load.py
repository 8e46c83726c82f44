"""Load on a server by wrk: one request over and over on N connections, and what came back."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

# wrk formats the request once when only its `wrk` table is set, so the script costs nothing per request;
# `done` runs after the last one.
SCRIPT = """
local file = assert(io.open(%(body)s, "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
%(headers)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %%d, "micros": %%d, "p50": %%d, "p99": %%d, "socket": %%d, "status": %%d, "timeout": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write, e.status, e.timeout))
end
"""


class LoadError(RuntimeError):
    """wrk is missing, or did not end as it should."""


@dataclass(frozen=True)
class Request:
    """One POST: where, what, and with which headers."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadResult:
    """One run: completed requests, seconds, latencies in milliseconds, and requests that failed."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


def lua_string(text: str) -> str:
    """A Lua literal; JSON's escapes of quotes and backslashes are Lua's too."""
    return json.dumps(text, ensure_ascii=False)


def script(body: Path, headers: dict[str, str]) -> str:
    lines = "\n".join(f"wrk.headers[{lua_string(name)}] = {lua_string(value)}" for name, value in headers.items())
    return SCRIPT % {"body": lua_string(str(body)), "headers": lines}


def parse(output: str) -> LoadResult:
    """The line that `done` has written."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            found = json.loads(line[len("RESULT ") :])
            errors = found["socket"] + found["status"] + found["timeout"]
            return LoadResult(found["requests"], found["micros"] / 1e6, found["p50"] / 1e3, found["p99"] / 1e3, errors)
    raise LoadError(f"wrk gave no result: {output[-500:]}")


def drive(url: str, body: Path, headers: dict[str, str], connections: int, seconds: float, threads: int = 1) -> LoadResult:
    """POST the file to `url` on `connections` connections for `seconds` (wrk takes whole ones: at least 1)."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script(body, headers))
        file.flush()
        whole = max(1, round(seconds))
        argv = ["wrk", "--latency", f"-t{min(threads, connections)}", f"-c{connections}", f"-d{whole}s"]
        argv += ["--timeout", "10s", "-s", file.name, url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=whole + 60, check=False)
    if done.returncode != 0:
        raise LoadError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    return parse(done.stdout)
