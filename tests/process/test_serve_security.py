"""What a server lets in: listeners, hosts, keys and scopes on every route, TLS, pickles, and the modes of its files."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from serving_home import Serving, ServingHome, connect, exchange

import headgate
from headgate import errors
from headgate.control.api import ROUTES
from headgate.serving.endpoints import Endpoints

CODE = """
class Twice:
    idempotent = True

    def predict(self, x: int) -> int:
        return 2 * x
"""
OPEN = {
    ("GET", "/"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/docs/style.css"),
    ("GET", "/docs/try.js"),
}
"""Everything on the inference port that answers without a key."""
OPEN_CONTROL = {("GET", "/healthz")}
"""The same of the control API."""
REVOKED_WITHIN = 5.0
LISTENING = "0A"


class Guarded(NamedTuple):
    """A server whose home has keys."""

    home: ServingHome
    serving: Serving
    admin: str
    infer: str


def _bearer(key: str) -> str:
    return f"Bearer {key}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server as it comes, without keys."""
    home = ServingHome(tmp_path_factory.mktemp("plain") / "h")
    target = f"{home.write('twice.py', CODE)}:Twice"
    yield home.serve(target, "--threads", "1", "--allow-host", "models.example").until_ready("twice").until_settled()
    home.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with an admin key and one for inference, both made on the home before it ran."""
    home = ServingHome(tmp_path_factory.mktemp("guarded") / "h")
    admin, infer = home.done("key", "create", "--scope", "admin").strip(), home.done("key", "create").strip()
    home.environment["HEADGATE_API_KEY"] = admin
    serving = home.serve(f"{home.write('twice.py', CODE)}:Twice", "--threads", "1").until_settled()
    yield Guarded(home, serving, admin, infer)
    home.close()


# ---- listeners and files


def _listeners(pids: set[int]) -> list[tuple[str, int]]:
    """Return address (hexadecimal, as the kernel writes it) and port of every TCP or UDP socket these processes listen on."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(fd)))
            except FileNotFoundError:
                continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == LISTENING or table.startswith("udp")):
                address, _, port = fields[1].partition(":")
                found.append((address, int(port, 16)))
    return found


def test_nothing_listens_beyond_loopback(plain: Serving) -> None:
    """All processes together listen on two ports, those that are told, both of 127.0.0.1."""
    ports = {int(url.rpartition(":")[2]) for url in (plain.url, plain.control_url)}
    found = _listeners(set(plain.pids().values()))
    assert {port for _, port in found} == ports
    assert {address for address, _ in found} == {"0100007F"}


def test_only_the_owner_reaches_home_and_sockets(plain: Serving) -> None:
    """The home is 0700, and so is the folder of the sockets; the sockets are 0600, database and logs nobody else's."""

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    home = plain.home
    assert mode(home.path) == 0o700
    assert mode(home.sockets) == 0o700
    assert mode(home.gateway_socket) == 0o600
    assert mode(home.supervisor_socket) == 0o600
    assert [path for path in home.logs.iterdir() if mode(path) & 0o077] == []


@pytest.mark.parametrize("control", [False, True])
def test_foreign_names_are_refused(plain: Serving, control: bool) -> None:
    """A Host or an Origin that is not this server's is answered 421 on both ports (DNS rebinding, other sites' pages)."""
    path = "/healthz" if control else "/v2/health/live"
    for name in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "2130706433.example"):
        assert plain.get(path, control=control, host=name).status == 421
    for origin in ("http://evil.example", "https://127.0.0.1.evil.example", "null"):
        assert plain.get(path, control=control, origin=origin).status == 421
    for name in ("localhost", "127.0.0.1:9999", "[::1]", "models.example"):
        assert plain.get(path, control=control, host=name).status == 200
    assert plain.get(path, control=control, origin="http://localhost:3000").status == 200


# ---- keys


def _filled(path: str) -> str:
    return re.sub(r"\{\w+([*#]?)\}", lambda variable: "1" if variable[1] == "#" else "twice", path)


INFERENCE = sorted({(endpoint.route.method, endpoint.route.path) for endpoint in Endpoints([], require_key=True).routes()})
CONTROL = sorted((entry.method, entry.path) for entry in ROUTES)


def test_every_route_needs_a_key_but_these(guarded: Guarded) -> None:
    """Every route of both ports, as the code lists them, answers 401 without a key and with a wrong one, but for a literal list."""
    serving = guarded.serving
    assert set(INFERENCE) >= OPEN and set(CONTROL) >= OPEN_CONTROL
    for routes, allowed, control in ((INFERENCE, OPEN, False), (CONTROL, OPEN_CONTROL, True)):
        for method, path in routes:
            for headers in ({}, {"authorization": "Bearer hg_0_wrong"}):
                answer = serving.request("PUT" if method == "*" else method, _filled(path), control=control, **headers)
                assert (answer.status == 401) is ((method, path) not in allowed), f"{method} {path}: {answer.status}"
                assert answer.status in (200, 401, 503)


def test_keys_count_from_the_first_moment(tmp_path: Path) -> None:
    """While a server with keys starts, before control has said which, nothing that needs a key is answered to anybody."""
    home = ServingHome(tmp_path / "h")
    try:
        home.done("key", "create", "--scope", "admin")
        serving = home.serve()
        answers = []

        def refused() -> bool:
            answers.append(serving.get("/metrics").status)
            return answers[-1] == 401

        serving.until(refused, "it refuses")
        assert set(answers) <= {401, 503}
    finally:
        home.close()


def test_serve_without_a_key_says_where_it_is(tmp_path: Path) -> None:
    """On a home with keys, serve prints its URLs also to whoever has given it none, and says that every request needs one."""
    home = ServingHome(tmp_path / "h")
    try:
        home.done("key", "create", "--scope", "admin")
        serving = home.serve().until_settled()
        assert serving.url in serving.said and serving.control_url in serving.said
        assert "every request needs a key" in serving.said and "HEADGATE_API_KEY" in serving.said
    finally:
        home.close()


@pytest.mark.parametrize("control", [False, True])
def test_what_does_not_exist_needs_a_key_too(guarded: Guarded, control: bool) -> None:
    """Without a key nobody learns which paths, verbs or models there are."""
    for method, path in (("GET", "/nowhere"), ("GET", "/v2/models/nobody"), ("DELETE", "/status"), ("PATCH", "/predict/twice")):
        assert guarded.serving.request(method, path, control=control).status == 401


def test_a_key_is_good_for_its_scope(guarded: Guarded) -> None:
    """A key for inference asks models by every accepted header, and manages nothing; the admin key does both."""
    serving = guarded.serving
    for headers in (
        {"authorization": _bearer(guarded.infer)},
        {"authorization": f"Api-Key {guarded.infer}"},
        {"x_api_key": guarded.infer},
        {"authorization": _bearer(guarded.admin)},
    ):
        assert serving.ask("twice", {"x": 4}, **headers).json == {"output": 8}
    for method, path in set(CONTROL) - OPEN_CONTROL - {("POST", "/server/stop")}:
        answer = serving.request(method, _filled(path), control=True, authorization=_bearer(guarded.infer))
        assert answer.status == 403, f"{method} {path}: {answer.status}"
    assert serving.get("/status", control=True, authorization=_bearer(guarded.admin)).status == 200
    assert guarded.home.run("status", HEADGATE_API_KEY=guarded.infer).returncode == errors.PermissionDenied.exit
    assert guarded.home.run("status", HEADGATE_API_KEY="").returncode == errors.Unauthenticated.exit


def test_a_revoked_key_is_refused_within_five_seconds(guarded: Guarded) -> None:
    """A key works as soon as it is made while the server runs, and no longer than five seconds after it is revoked, also on a
    connection that has used it before."""
    created = json.loads(guarded.home.done("key", "create", "--name", "guest", "--output", "json"))
    header = {"authorization": _bearer(created["key"])}
    connection = connect(guarded.serving.url)
    try:
        guarded.serving.until(
            lambda: guarded.serving.ask("twice", {"x": 1}, **header).status == 200, "the key is known", REVOKED_WITHIN
        )
        assert exchange(connection, "POST", "/predict/twice", {"x": 1}, header).status == 200
        guarded.home.done("key", "revoke", created["id"])
        revoked = time.monotonic()
        guarded.serving.until(
            lambda: exchange(connection, "POST", "/predict/twice", {"x": 1}, header).status == 401, "it is refused", REVOKED_WITHIN
        )
        assert time.monotonic() - revoked < REVOKED_WITHIN
        assert guarded.serving.ask("twice", {"x": 1}, **header).status == 401
    finally:
        connection.close()


# ---- beyond loopback, TLS


def test_an_open_port_needs_keys_and_tls(tmp_path: Path) -> None:
    """--host and --control-host beyond loopback are refused without TLS; the message says what is missing and what to do."""
    home = ServingHome(tmp_path / "h")
    target = f"{home.write('twice.py', CODE)}:Twice"
    for flag in ("--host", "--control-host"):
        refused = home.run("serve", target, flag, "0.0.0.0", "--port", "0", "--control-port", "0")
        assert refused.returncode == errors.SpecError.exit
        for word in (flag, "keys", "TLS", "--tls-cert", "--tls-key", "headgate key", "--insecure"):
            assert word in refused.stderr
    assert not home.home.server.exists()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=headgate-test"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([*command.split(), "-addext", names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return str(cert), str(key)


def test_tls_on_both_ports(tmp_path: Path, certificate: tuple[str, str]) -> None:
    """With a certificate both ports speak TLS and nothing else; serve, commands and clients work with it as their --ca."""
    cert, key = certificate
    home = ServingHome(tmp_path / "h")
    try:
        target = f"{home.write('twice.py', CODE)}:Twice"
        serving = home.serve(target, "--threads", "1", "--tls-cert", cert, "--tls-key", key).until_settled()
        assert serving.url.startswith("https://") and serving.control_url.startswith("https://")
        trusted = ssl.create_default_context(cafile=cert)
        for url, path in ((serving.url, "/v2/health/ready"), (serving.control_url, "/healthz")):
            connection = connect(url, context=trusted)
            assert exchange(connection, "GET", path).status == 200
            connection.close()
            with pytest.raises((OSError, http.client.HTTPException)):
                exchange(connect(url.replace("https", "http")), "GET", path)
        assert home.done("predict", "twice", '{"x": 4}', "--ca", cert).strip() == '{"output": 8}'
        assert json.loads(home.done("status", "--ca", cert, "--server", serving.control_url, "--output", "json"))["deployments"]
        with headgate.Client(serving.url, ca=cert) as client:
            assert client.predict_rows("twice", [{"x": 5}]) == [{"output": 10}]
        untrusting = home.run("status", "--server", serving.control_url)
        assert untrusting.returncode == errors.ServerUnreachable.exit
        assert "certificate" in untrusting.stderr and "--ca" in untrusting.stderr
        assert serving.stop() == 0
    finally:
        home.close()


def test_half_of_tls_is_refused(tmp_path: Path, certificate: tuple[str, str]) -> None:
    """A certificate without its key, or files that are not there, start nothing."""
    home, (cert, key) = ServingHome(tmp_path / "h"), certificate
    for words, missing in ((("--tls-cert", cert), "--tls-key"), (("--tls-cert", "/nowhere.pem", "--tls-key", key), "/nowhere.pem")):
        refused = home.run("serve", *words, "--port", "0", "--control-port", "0")
        assert refused.returncode == errors.SpecError.exit
        assert missing in refused.stderr


# ---- pickles


PICKLE = b"cposix\nmkdir\n(S'%s'\ntR."
"""Makes a folder when it is unpickled."""


@pytest.mark.parametrize("name", ["evil.pkl", "evil.joblib"])
def test_pickles_run_only_where_somebody_says_so(tmp_path: Path, name: str) -> None:
    """Without --trust-pickle a pickle is not opened by push, serve or deploy, and the message names the flag; with it, it is."""
    home = ServingHome(tmp_path / "h")
    proof = tmp_path / "proof"
    (home.folder / name).write_bytes(PICKLE % str(proof).encode())
    target = str(home.folder / name)
    for words in (("push", target), ("serve", target, "--port", "0", "--control-port", "0", "--drain-delay", "0")):
        refused = home.run(*words)
        assert refused.returncode == errors.UntrustedPickle.exit
        assert "--trust-pickle" in refused.stderr
    assert not proof.exists()
    trusted = home.run("push", target, "--trust-pickle")
    assert proof.exists(), "trusted, it is loaded: only then does the refusal above mean anything"
    assert trusted.returncode != 0
