"""A client of the control API, of the standard library only: `headgate serve`'s children and every command start in time with it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from headgate.errors import HeadgateError, InvalidRequest, ServerUnreachable, by_code

_TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""

_CODES = {401: "unauthenticated", 403: "permission_denied", 404: "not_found", 503: "not_ready"}
"""What a status means where no body says it: answers to HEAD have none."""


class Address(NamedTuple):
    """Where a control API is and how to be let in."""

    url: str
    key: str | None = None
    ca: str | None = None
    """Certificate (or authority) to trust, beside those of the system."""
    pinned: bool = False
    """``ca`` is this very server's certificate: the name in it does not matter (it is reached by its loopback address)."""


class Api:
    """The control API of one server. Every call opens a connection of its own; errors are raised as `headgate.errors` has them."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url if "://" in address.url else f"http://{address.url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(f"--server: expected a URL such as http://127.0.0.1:8081, got {address.url!r}")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _tls(address) if parts.scheme == "https" else None
        self._key = address.key

    def get(self, path: str) -> Any:
        """GET ``path`` and return what its JSON says."""
        return self.call("GET", path)[1]

    def call(self, method: str, path: str, body: Any = None, generation: int | None = None) -> tuple[int, Any]:
        """Send ``body`` (if any) as JSON; return the status and what the JSON answer says (None for none).

        ``generation`` is the one that the change is meant for (0: of what is not there yet); at another the server changes nothing.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        if generation is not None:
            headers["if-match"] = f'"{generation}"'
        with self._exchange(method, path, data, headers) as response:
            return response.status, _decode(response.read(), self.url)

    def exists(self, path: str) -> bool:
        """HEAD ``path``: whether it is there."""
        try:
            with self._exchange("HEAD", path, None, {}):
                return True
        except HeadgateError as error:
            if error.status == 404:
                return False
            raise

    def upload(self, path: str, chunks: Iterable[bytes], length: int) -> Any:
        """POST ``length`` bytes from ``chunks`` and return what the JSON answer says."""
        headers = {"content-type": "application/x-tar", "content-length": str(length)}
        with self._exchange("POST", path, chunks, headers) as response:
            return _decode(response.read(), self.url)

    def lines(self, path: str) -> Iterator[str]:
        """GET ``path`` and yield the lines of its text as they come, without their ends, for as long as the server sends."""
        with self._exchange("GET", path, None, {}, timeout=None) as response:
            for line in response:
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float | None = _TIMEOUT
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(timeout)
        try:
            with _reachable(self.url):
                _send(
                    connection, method, path, body, {**headers, **({"authorization": f"Bearer {self._key}"} if self._key else {})}
                )
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(response.status, response.read(), f"{self.url}{path}")
                yield response
        finally:
            connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)


def segment(text: object) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(str(text), safe="")


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
    try:
        connection.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        # A server refuses an upload before it has read it all; its answer then waits to be read.
        if connection.sock is None:
            raise


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    """Turn what the network says into `ServerUnreachable`, with what to do about it."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ServerUnreachable(
            f"{url} has a certificate that is not trusted ({error.verify_message}), nothing was sent; name its authority with --ca"
        ) from None
    except (ConnectionRefusedError, socket.gaierror) as error:
        reason = error.strerror or error
        raise ServerUnreachable(
            f"no server answers at {url} ({reason}); start one with 'headgate serve', or say where one is with --server"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        raise ServerUnreachable(
            f"{url} broke the connection off ({said}); see logs/control.log in its home, and try again"
        ) from None


def _refusal(status: int, body: bytes, url: str) -> HeadgateError:
    """Return the error that an answer of the control API stands for."""
    try:
        fields = json.loads(body)
        return by_code(str(fields["code"]), str(fields["error"]))
    except (ValueError, KeyError, TypeError):
        error = by_code(_CODES.get(status, "internal"), f"{url} answered {status} without a reason; check --server and --key")
        error.status = status
        return error


def _decode(body: bytes, url: str) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        raise HeadgateError(f"{url} did not answer with JSON, so it is no control API; check --server") from None


def _tls(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca)
    except OSError as error:
        raise InvalidRequest(f"--ca: {address.ca} cannot be read as PEM certificates ({error})") from None
    if address.pinned:
        context.check_hostname = False
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context
