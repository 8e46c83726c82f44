"""The head of an HTTP/1.1 request: parsed strictly by llhttp, once for each distinct block of bytes.

Clients send the same header bytes again and again on a connection (and across connections), so a parsed head, its route resolved,
is kept by its bytes. Everything about a request that does not lie in its body is worked out here, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httptools

from headgate.errors import HeadgateError, InvalidRequest, PayloadTooLarge, Unsupported
from headgate.serving.steering import Steering, steering
from headgate.serving.wire import asides

if TYPE_CHECKING:
    from headgate.serving.paths import Endpoint

CHUNKED = -1
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)


class Head:
    """One parsed head. ``error`` set means: read the body, answer that, compute nothing."""

    __slots__ = (
        "accept_encoding", "address", "asides", "chunks", "connection", "content_encoding", "endpoint", "error", "expects_continue",
        "fatal", "headers", "keep_alive", "length", "limit", "method", "params", "path", "query", "request_id", "steering", "timeout",
        "transport",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers: dict[str, str] = {}
        self.params: Mapping[str, str] = {}
        self.address: tuple[str | None, str | None] | None = None
        """Deployment and version to infer with, where the path names them."""
        self.transport = "http"
        """As in `headgate.protocols.base.Route`."""
        self.length = 0
        """Bytes of the body; `CHUNKED` if only its end tells."""
        self.limit = 0
        self.keep_alive = True
        self.connection = b""
        """The Connection header of the answer, if the client should not close: HTTP/1.0 wants to be told."""
        self.chunks = True
        """The client can read a chunked body: all but those of HTTP/1.0."""
        self.expects_continue = False
        self.content_encoding = ""
        self.accept_encoding = ""
        self.request_id: bytes | None = None
        self.timeout: float | None = None
        self.steering: Steering | None = None
        self.asides = 0
        """What the answer is to say of itself (`headgate.serving.wire.asides`)."""
        self.endpoint: Endpoint | None = None
        self.error: HeadgateError | None = None
        self.fatal = False
        """The framing cannot be trusted: answer and close."""


class _Collector:
    """What llhttp calls back."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def head_of_fields(
    method: str, path: str, authority: str, fields: Iterable[tuple[str, str]], *, json_bytes: int, binary_bytes: int
) -> Head:
    """Return the head of a request of HTTP/2, whose fields are well-formed (RFC 9113, section 8.3). What is wrong stands in ``error``."""
    head = Head()
    head.method = method
    head.path, _, head.query = path.partition("?")
    headers = head.headers
    for name, value in fields:
        joint = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    headers["host"] = authority
    headers.pop("expect", None)  # a client of HTTP/2 may well wait for windows, but not for our word
    try:
        if headers.get("content-type", "").partition(";")[0].partition("+")[0].strip().lower() == "application/grpc":
            _read_grpc(head, binary_bytes)
        else:
            _measure(head, json_bytes, binary_bytes)
    except (InvalidRequest, Unsupported) as error:
        head.error = error
    return head


_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def _read_grpc(head: Head, binary_bytes: int) -> None:
    """Source: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md."""
    head.transport = "grpc"
    head.limit = binary_bytes
    head.length = CHUNKED
    head.content_encoding = head.headers.get("grpc-encoding", "").strip().lower()
    head.asides = asides.wanted(head.headers)
    codec = head.headers["content-type"].partition(";")[0].strip().lower().partition("+")[2]
    if codec not in ("", "proto"):
        raise Unsupported(f"content-type: messages in {codec[:50]!r} are not understood here; send protocol buffers")
    if head.content_encoding not in ("", "identity", "gzip", "deflate"):
        raise Unsupported(f"grpc-encoding {head.content_encoding[:50]!r} is not understood; use gzip, deflate or identity")
    _read_wishes(head)
    text = head.headers.get("grpc-timeout")
    if text is not None:
        found = re.fullmatch(r"([0-9]{1,8})([HMSmun])", text)
        if found is None:
            raise InvalidRequest(f"grpc-timeout: expected up to 8 digits and a unit (H M S m u n), got {text[:50]!r}")
        seconds = int(found[1]) * _UNITS[found[2]]
        head.timeout = seconds if head.timeout is None else min(seconds, head.timeout)


def parse_head(raw: bytes, *, json_bytes: int, binary_bytes: int) -> Head:
    """Parse a head that ends in an empty line. Never raises: what is wrong stands in ``error``."""
    head = Head()
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        _feed(parser, raw)
        if not collector.complete:
            raise InvalidRequest("the head of the request is malformed: it does not end where its empty line is")
        head.method = parser.get_method().decode("ascii")
        _fill(head, collector, parser.get_http_version())
        _measure(head, json_bytes, binary_bytes)
    except httptools.HttpParserError as error:
        head.error, head.fatal = InvalidRequest(f"the head of the request is malformed: {error}"), True
    except InvalidRequest as error:
        head.error, head.fatal = error, True
    return head


def _feed(parser: httptools.HttpRequestParser, raw: bytes) -> None:
    """Parse, and do not take up an offer to upgrade (RFC 9110, section 7.8): curl makes one with every ``--http2``."""
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        if parser.get_method() == b"CONNECT":
            raise InvalidRequest("CONNECT: this server is no proxy") from None


def _fill(head: Head, collector: _Collector, version: str) -> None:
    authority, target = _split_target(collector.url)
    path, _, query = target.partition(b"?")
    try:
        head.path = path.decode("ascii")
        head.query = query.decode("ascii")
        for name, value in collector.headers:
            key = name.decode("ascii").lower()
            text = value.decode("latin-1")
            head.headers[key] = f"{head.headers[key]}, {text}" if key in head.headers else text
    except UnicodeDecodeError:
        raise InvalidRequest("the path and the header names must be ASCII; percent-encode the path") from None
    if not path.startswith(b"/"):
        raise InvalidRequest("the request target must be a path such as /v2/models/NAME/infer")
    if version == "1.1" and "host" not in head.headers:
        raise InvalidRequest("the Host header is missing")
    if authority is not None:
        head.headers["host"] = authority
    # Not parser.should_keep_alive(): where no body follows, the request is over by now, and llhttp has forgotten it.
    options = [option.strip() for option in head.headers.get("connection", "").lower().split(",")]
    head.keep_alive = "close" not in options and (version == "1.1" or "keep-alive" in options)
    if version != "1.1":
        if version != "1.0" or "transfer-encoding" in head.headers:
            raise InvalidRequest(f"HTTP/{version}: expected HTTP/1.1, or HTTP/1.0 without Transfer-Encoding")
        head.headers.pop("expect", None)  # RFC 9110, section 10.1.1
        head.chunks = False
        head.connection = b"connection: keep-alive\r\n" if head.keep_alive else b""
    hosts = [value for name, value in collector.headers if name.lower() == b"host"]
    if len(hosts) > 1:
        raise InvalidRequest("there is more than one Host header")


def _split_target(url: bytes) -> tuple[str | None, bytes]:
    """Return the host of a request target in absolute form, which stands above the Host header, and its path and query.

    Source: RFC 9112, section 3.2.2; what the host may not be: RFC 9110, sections 4.2.1 and 4.2.4.
    """
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is None:
        return None, url
    authority = absolute[1].decode("latin-1")
    if not authority or "@" in authority:
        raise InvalidRequest(f"the request target must name a host, and no user: got {authority[:100]!r}")
    return authority, absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


def _measure(head: Head, json_bytes: int, binary_bytes: int) -> None:
    headers = head.headers
    head.content_encoding = headers.get("content-encoding", "").strip().lower()
    head.accept_encoding = headers.get("accept-encoding", "")
    head.expects_continue = headers.get("expect", "").lower() == "100-continue"
    head.asides = asides.wanted(headers)
    # Not by Content-Type, which anybody may write: without this header a body is parsed as JSON, unless its route says otherwise.
    head.limit = binary_bytes if "inference-header-content-length" in headers else json_bytes
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].strip().lower() != "chunked":
            raise InvalidRequest("transfer-encoding: only 'chunked' is understood")
        head.length = CHUNKED
    elif "content-length" in headers:
        head.length = int(headers["content-length"].split(",")[0])
    _check_json_part(head, json_bytes)
    _read_wishes(head)


def _check_json_part(head: Head, json_bytes: int) -> None:
    """The limit of JSON holds for what stands before binary tensors too. A length beyond the body is left to the protocol."""
    text = head.headers.get("inference-header-content-length", "")
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    if size > json_bytes and (size <= head.length or head.length == CHUNKED or head.content_encoding):
        head.fatal = True
        head.error = PayloadTooLarge(
            f"the JSON before the tensors has {size} bytes and exceeds the maximum allowed, {json_bytes}; send data in binary form"
        )


def _read_wishes(head: Head) -> None:
    """Headers of our own. A mistake in one is the request's error, not the connection's."""
    try:
        head.steering = steering(head.headers)
    except InvalidRequest as error:
        head.error = error
    request_id = head.headers.get("x-request-id")
    if request_id is not None:
        if len(request_id) <= 200 and request_id.isascii() and request_id.isprintable() and request_id:
            head.request_id = request_id.encode("ascii")
        else:
            head.error = InvalidRequest("x-request-id: expected 1 to 200 printable ASCII characters")
    timeout = head.headers.get("x-headgate-timeout-ms")
    if timeout is not None:
        if timeout.isascii() and timeout.isdecimal() and int(timeout[:10]) > 0 and len(timeout) <= 10:
            head.timeout = int(timeout) / 1000
        else:
            head.error = InvalidRequest(f"x-headgate-timeout-ms: expected milliseconds as an integer above 0, got {timeout[:50]!r}")


def is_binary(head: Head) -> bool:
    """Whether the client says that the body is bytes; what is read by that depends on the route."""
    return head.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/octet-stream"


def too_large(size: int, limit: int, json_bytes: int) -> PayloadTooLarge:
    """The error for a body over its limit."""
    hint = "; send tensors in binary form, whose limit is higher" if limit == json_bytes else ""
    return PayloadTooLarge(
        f"the body has {size} bytes and exceeds the maximum allowed, {limit}{hint}. The server's owner can raise the limit"
    )


def split_path(path: str) -> list[str]:
    """Return the segments of ``path``, percent-decoded one by one, so that an encoded slash splits nothing."""
    return [unquote(segment, errors="strict") if "%" in segment else segment for segment in path.split("/")[1:]]
