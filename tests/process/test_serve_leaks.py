"""What answers give away: bad requests of every kind to every route of both ports, and models that raise. No answer may hold a
traceback, a place on the server, a secret, or the words of the machinery behind it."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from serving_home import Answer, Serving, ServingHome, connect, exchange

import headgate
from headgate.control.api import ROUTES
from headgate.serving.endpoints import Endpoints

CODE = """
import json
import traceback
from pathlib import Path

from headgate.runtimes.base import InvalidInput


class Twice:
    idempotent = True

    def predict(self, x: int) -> int:
        return 2 * x


def _nested() -> str:
    try:
        open(__file__ + ".missing")
    except OSError:
        return traceback.format_exc()


RAISES = {
    "missing": lambda: open(__file__ + ".missing"),
    "missing with a blank": lambda: open(Path(__file__).parent / "two words" / "weights.bin"),
    "named": lambda: (_ for _ in ()).throw(RuntimeError(f"could not read {__file__}, line 3: {Path(__file__).parent}/x.bin:7")),
    "traceback": lambda: (_ for _ in ()).throw(ValueError(_nested())),
    "chained": lambda: json.loads(_nested()),
    "syntax": lambda: compile("1 +", __file__, "exec"),
    "import": lambda: __import__("headgate_has_no_such_module"),
    "blamed": lambda: (_ for _ in ()).throw(InvalidInput(f"x: not in {__file__}")),
    "long": lambda: (_ for _ in ()).throw(ValueError(f"{__file__} " * 10_000)),
}


class Raises:
    idempotent = True

    def predict(self, how: str) -> str:
        return str(RAISES[how]())
"""
HOWS = {
    "missing": "FileNotFoundError: [Errno 2] No such file or directory: 'raises.py.missing'",
    "missing with a blank": "No such file or directory: 'weights.bin'",
    "named": "RuntimeError: could not read raises.py, line 3: x.bin:7",
    "traceback": "ValueError: ... (the rest is in the log)",
    "chained": "JSONDecodeError: Expecting value",
    "syntax": "SyntaxError: invalid syntax (raises.py, line 1)",
    "import": "No module named 'headgate_has_no_such_module'",
    "blamed": "x: not in raises.py",
    "long": "... (the rest is in the log)",
}
"""What each of them raises, and what clients are told of it."""
CANARY = "canary-5f1d0c-in-the-environment"
NAMES = [
    "twice", "nobody", "..", "..%2f..%2f..%2fetc%2fpasswd", "%00", "a%00b", "%0d%0aset-cookie:%20x=1", "%1b%5b31m", "%ff", "%ed%a0%80",
    "a" * 300, "-rf", "CON", "twice@99999999999999999999", "twice@x", "sha256:" + "0" * 64, "%F0%9F%92%A5", "'%20OR%201=1--", "{x}", "%25s",
]  # fmt: skip
BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b"[" * 200,
    b'{"a":' * 150,
    b'{"x": NaN}',
    b'{"x": 1e999}',
    b'{"x": ' + b"9" * 5000 + b"}",
    b'{"x": "\\ud800"}',
    b'{"x": 1, "x": 2}',
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"x": "\x00"}',
    b'{"x": null}',
    b'{"x": {"y": []}}',
    b'{"inputs": 3}',
    b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1], "data": [1]}]}',
    b'{"model": "nobody@1"}',
    b'{"inputs": [{"name": "x", "datatype": "OBJECT", "shape": [1], "data": [1]}]}',
    b'{"model": "twice@1", "scael": {}}',
    b'{"model": 3}',
    b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [4611686018427387904, 4], "data": [1]}]}',
    b'{"version": 18446744073709551616}',
    b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 9999999}}]}',
    b'{"version": -1}',
    b'{"digest": "../../etc/passwd"}',
    b'{"digest": "sha256:' + b"0" * 64 + b'"}',
    b'{"scopes": ["root"]}',
    b'{"scopes": [], "name": "\\u001b"}',
    b"cposix\nsystem\n(S'id'\ntR.",
    b"\x80\x04\x95",
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
    bytes(1024),
    b"x/../../etc/passwd" + bytes(494),
]
HEADERS: list[dict[str, str]] = [
    {"content-type": "application/x-python-pickle"}, {"content-type": "text/html; charset=\x80"}, {"content-encoding": "gzip"},
    {"content-encoding": "snappy"}, {"accept": "application/vnd.x"}, {"inference-header-content-length": "99999"},
    {"inference-header-content-length": "-1"}, {"inference-header-content-length": "zwei"}, {"x-headgate-timeout-ms": "soon"},
    {"x-headgate-timeout-ms": "-5"}, {"x-request-id": "a\x1b[31mb"}, {"x-request-id": "x" * 5000}, {"if-match": "newest"},
    {"host": "evil.example"}, {"origin": "http://evil.example"}, {"authorization": "Bearer hg_0_wrong"}, {"authorization": "Basic YTpi"},
    {"authorization": ""}, {"x-api-key": "' OR 1=1 --"}, {"expect": "200-maybe"}, {"range": "bytes=0-,1-"}, {"user-agent": "\x1b[2J"},
    {"connection": "upgrade", "upgrade": "websocket"}, {"content-length": "abc"}, {"te": "x"},
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]
WORDS = (
    "Traceback",
    'File "',
    "site-packages",
    "memfd",
    ".sock",
    "SELECT ",
    "sqlite",
    "sqlalchemy",
    "msgspec",
    "starlette",
    "uvicorn",
)
"""Of the machinery; where they stand, something else may stand beside them."""


class Guarded(NamedTuple):
    """A server with keys, and everything it must keep to itself."""

    home: ServingHome
    serving: Serving
    admin: str
    secrets: Mapping[str, str]

    def ask(self, deployment: str, body: Any, path: str = "/predict/{}") -> Answer:
        """Ask a model."""
        return self.serving.request("POST", path.format(deployment), body, authorization=f"Bearer {self.admin}")

    def leaks(self, answer: Answer) -> list[str]:
        """Return what an answer gives away."""
        text = answer.body.decode(errors="replace") + "".join(f"\n{name}: {value}" for name, value in answer.headers.items())
        return [name for name, secret in self.secrets.items() if secret in text]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with keys, two models and something in its environment."""
    home = ServingHome(tmp_path_factory.mktemp("guarded") / "h", HEADGATE_TEST_CANARY=CANARY)
    admin, infer = home.done("key", "create", "--scope", "admin").strip(), home.done("key", "create").strip()
    home.environment["HEADGATE_API_KEY"] = admin
    code = home.write("twice.py", CODE), home.write("raises.py", CODE)
    serving = home.serve(f"{code[0]}:Twice", f"{code[1]}:Raises", "--threads", "1", "--access-log").until_settled()
    keys = {f"{name} key": key for name, key in (("admin", admin), ("infer", infer))}
    places = {
        "the home": home.home.path,
        "a folder of the user": home.folder,
        "the source": Path(headgate.__file__).parent,
        "the environment": sys.prefix,
        "the interpreter": sys.base_prefix,
    }
    secrets = {word: word for word in WORDS} | {name: str(place) for name, place in places.items()} | keys | {"a variable": CANARY}
    secrets |= {f"hash of the {name}": hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    yield Guarded(home, serving, admin, secrets)
    home.close()


class Sender:
    """One keep-alive connection, connected again when the server has closed it."""

    def __init__(self, guarded: Guarded, control: bool) -> None:
        self._guarded = guarded
        self._url = guarded.serving.control_url if control else guarded.serving.url
        self._connection = connect(self._url)
        self.found: list[str] = []
        """Leaks, and answers that say that the server is at fault."""
        self.seen: Counter[int] = Counter()

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Send a request and look at its answer."""
        try:
            answer = self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException):
            # The connection was closed after the answer before.
            self.close()
            self._connection = connect(self._url)
            answer = self._exchange(method, path, body, headers)
        self.seen[answer.status] += 1
        leaks = self._guarded.leaks(answer)
        if leaks or answer.status == 500 or "set-cookie" in answer.headers:
            said = f"{method} {path[:80]} {body!r:.60} {headers}: {answer.status} {answer.body!r:.300}"
            self.found.append(f"{said} gives away {leaks}")

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> Answer:
        allowed = {"authorization": f"Bearer {self._guarded.admin}", **(headers or {})}
        if path.endswith("/events"):
            return self._began(method, path, body, allowed)
        return exchange(self._connection, method, path, body, allowed)

    def _began(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Ask for a stream that does not end by itself, and hang up after its head."""
        self._connection.request(method, path, body, dict(headers))
        response = self._connection.getresponse()
        endless = response.status == 200
        content = b"" if endless else response.read()
        answered = Answer(response.status, content, {name.lower(): text for name, text in response.getheaders()}, 0.0)
        if endless:
            response.close()
            self.close()
            self._connection = connect(self._url)
        return answered

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _routes(control: bool) -> list[tuple[str, str]]:
    """Every route of a port, as the code lists them; but for the one that would end the server."""
    if control:
        return sorted((entry.method, entry.path) for entry in ROUTES if entry.path != "/server/stop")
    routes = {(endpoint.route.method, endpoint.route.path) for endpoint in Endpoints([], require_key=True).routes()}
    return sorted(("POST" if method == "*" else method, path) for method, path in routes)


def _filled(path: str, name: str) -> str:
    return re.sub(r"\{\w+\*?\}", lambda _: name, path)


def _requests(method: str, path: str) -> Iterator[tuple[str, str, bytes | None, Mapping[str, str] | None]]:
    """Yield everything that can be wrong with a request to one route."""
    known = "nobody" if method == "DELETE" else "twice"
    for name in NAMES if "{" in path else ():
        if name != "twice":
            yield method, _filled(path, name), b"{}" if method in ("POST", "PUT") else None, None
    for body in BODIES:
        yield method, _filled(path, known), body, None
    for headers in HEADERS:
        yield method, _filled(path, known), b"{}", headers
    for verb in METHODS:
        yield verb, _filled(path, "nobody"), b"{}", None


@pytest.mark.parametrize("control", [False, True], ids=["inference", "control"])
def test_a_bad_request_learns_nothing(guarded: Guarded, control: bool) -> None:
    """Names that are paths, bodies that are no JSON, lengths that lie, foreign verbs, headers and escapes, on every route: never a 500,
    never a header of the client's making, and nothing of the server in the answer. Afterwards it serves as before."""
    sender = Sender(guarded, control)
    for method, path in _routes(control):
        for request in _requests(method, path):
            sender.send(*request)
    sender.close()
    assert sender.found == []
    assert sender.seen.total() > 1000 and {400, 401, 404, 405, 421} <= sender.seen.keys()
    assert guarded.ask("twice", {"x": 4}).json == {"output": 8}
    assert guarded.serving.get("/status", control=True, authorization=f"Bearer {guarded.admin}").status == 200


def test_the_log_has_one_record_a_line(guarded: Guarded) -> None:
    """Whatever clients have put into paths and headers, a line of the gateway's log is a record, and holds no character of control."""
    for headers in ({}, {"x_request_id": "a\x1b[31mb"}, {"user_agent": "\x1b[2J"}):
        guarded.serving.get("/%0d%0a%1b%5b31m/nowhere", authorization=f"Bearer {guarded.admin}", **headers)
    lines = guarded.serving.log("gateway-0").splitlines()
    assert any("nowhere" in line for line in lines)
    assert [line for line in lines if not _is_record(line)] == []


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict) and line.isprintable()
    except ValueError:
        return False


@pytest.mark.parametrize("how", HOWS)
def test_what_a_model_raises_names_no_place(guarded: Guarded, how: str) -> None:
    """The client is told what was raised, without the folders of files, without a traceback, and no novel; the log has the whole."""
    infer = {"inputs": [{"name": "how", "datatype": "BYTES", "shape": [1], "data": [how]}]}
    for answer in (guarded.ask("raises", {"how": how}), guarded.ask("raises", infer, "/v2/models/{}/infer")):
        assert answer.status == (400 if how == "blamed" else 500)
        assert guarded.leaks(answer) == []
        assert HOWS[how] in answer.error and len(answer.error) < 3000
    if how != "blamed":
        assert f"{guarded.home.home.store}" in guarded.serving.log("raises-1.1")
