"""Both protocols on one port with TLS: the handshake (ALPN, RFC 7301) says which, and clients of all kinds agree."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import checks_of, run_checks
from serving_home import Serving, ServingHome, connect, exchange

SCRIPT = Path(__file__).with_name("grpcio_tls_calls.py")
CODE = """
class Twice:
    idempotent = True

    def predict(self, x: int) -> int:
        return 2 * x
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=headgate-test"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([*command.split(), "-addext", names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]) -> Iterator[Serving]:
    """A server with TLS and one model."""
    home = ServingHome(tmp_path_factory.mktemp("tls") / "h")
    words = ("--threads", "1", "--tls-cert", certificate[0], "--tls-key", certificate[1])
    yield home.serve(f"{home.write('twice.py', CODE)}:Twice", *words).until_settled()
    home.close()


def _address(serving: Serving) -> tuple[str, int]:
    host, _, port = serving.url.removeprefix("https://").partition(":")
    return host, int(port)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["h2", "http/1.1"], "h2"),
        (["http/1.1", "h2"], "h2"),
        (["h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/3"], None),
        ([], None),
    ],
)
def test_the_handshake_chooses(serving: Serving, certificate: tuple[str, str], offered: list[str], chosen: str | None) -> None:
    """h2 where it is offered, HTTP/1.1 to those who offer only that; whoever offers nothing known is not turned away."""
    context = ssl.create_default_context(cafile=certificate[0])
    if offered:
        context.set_alpn_protocols(offered)
    address = _address(serving)
    with socket.create_connection(address, timeout=60) as plain, context.wrap_socket(plain, server_hostname=address[0]) as sock:
        assert sock.selected_alpn_protocol() == chosen
        if chosen != "h2":
            sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert sock.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")])
def test_curl(serving: Serving, certificate: tuple[str, str], option: str, version: str) -> None:
    """The version it asks for, the same answer."""
    asked = ["-d", '{"x": 4}', "-w", "\n%{http_version} %{http_code}", f"{serving.url}/predict/twice"]
    done = subprocess.run(
        ["curl", "-sS", option, "--cacert", certificate[0], *asked], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f'{{"output":8}}\n{version} 200'


def test_a_client_of_http11(serving: Serving, certificate: tuple[str, str]) -> None:
    """The standard library's client, which offers HTTP/1.1 alone."""
    connection = connect(serving.url, context=ssl.create_default_context(cafile=certificate[0]))
    assert exchange(connection, "GET", "/v2/health/ready").status == 200
    connection.close()


@pytest.fixture(scope="module")
def outcomes(serving: Serving, certificate: tuple[str, str]) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    return run_checks("grpc", SCRIPT, serving.url.removeprefix("https://"), certificate[0])


@pytest.mark.parametrize("check", checks_of(SCRIPT))
def test_grpcio(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]
