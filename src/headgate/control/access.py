"""Who may come in: the Host and Origin of a request, its key, and the scope that its route declares."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from headgate.errors import Misdirected, NotReady, PermissionDenied, Unauthenticated
from headgate.registry.keys import KeyHash, check_key

_SCHEMES = ("bearer", "api-key")


class Access(NamedTuple):
    """What control asks of a request."""

    hosts: frozenset[str]
    """Names, in lower case, under which clients may ask for the server, besides those of this machine."""
    require_key: bool
    """Whether a key is needed even while none exists."""
    keys: Callable[[], tuple[KeyHash, ...] | None]
    """The good keys; None while they are not known."""


def check_origin(headers: Headers, hosts: Iterable[str]) -> None:
    """Raise `Misdirected` unless Host, and Origin where there is one, name this machine or one of ``hosts``; the port may be any.

    A page in a browser can make it send requests to loopback, but it cannot forge these two.
    """
    host = headers.get("host", "")
    if not _is_ours(f"//{host}", hosts):
        raise Misdirected(
            f"Host: this server does not answer for {host[:200]!r}; nothing was done. Ask for it as 127.0.0.1 or localhost, or start it "
            "with --allow-host NAME"
        )
    origin = headers.get("origin")
    if origin is not None and not _is_ours(origin, hosts):
        raise Misdirected(f"Origin: a page of {origin[:200]!r} may not use this server; nothing was done")


def admit(headers: Headers, scope: str | None, access: Access) -> str:
    """Return who asks: the id of the key, or ``local`` where none is needed. ``scope`` None is open to everybody.

    Raises `Misdirected`, `Unauthenticated`, `PermissionDenied`, or `NotReady` while the keys could not be read.
    """
    check_origin(headers, access.hosts)
    if scope is None:
        return "anybody"
    keys = access.keys()
    if keys is None:
        raise NotReady("the keys could not be read yet, so nobody is let in; try again")
    if not keys and not access.require_key:
        return "local"
    text = _presented(headers)
    if text is None:
        raise Unauthenticated(
            "this server wants a key: send 'Authorization: Bearer KEY' (--key, HEADGATE_API_KEY); 'headgate key create' makes one"
        )
    key = check_key(text, keys)
    if key is None:
        raise Unauthenticated("the key is not known, or was revoked; 'headgate key create' makes another")
    if scope not in key.scopes:
        raise PermissionDenied(f"key {key.id} is for {', '.join(sorted(key.scopes))}; this takes the scope {scope}")
    return key.id


def _presented(headers: Headers) -> str | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and text.strip():
        return text.strip()
    return headers.get("x-api-key")


def _is_ours(url: str, hosts: Iterable[str]) -> bool:
    try:
        name = (urlsplit(url).hostname or "").lower().rstrip(".")
    except ValueError:
        return False
    return name == "localhost" or name in hosts or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
