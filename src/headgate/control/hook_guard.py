"""Where hooks may lead: a deployment's spec must not turn control into somebody's way to what only this machine can reach.

A URL leads to the internet alone, whatever its name resolves to at the moment of the call, unless the server's owner has allowed the
host by ``--hook-allow``; commands are code, and run only where he has said ``--hook-commands``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from headgate.errors import SpecError
from headgate.spec import HookSpec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
"""IPv6 networks whose addresses stand for an IPv4 address, which may be anybody's (NAT64, 6to4, Teredo, IPv4-compatible)."""


class Rules(NamedTuple):
    """What the server's owner allows."""

    allowed: tuple[str, ...] = ()
    """``HOST`` or ``HOST:PORT``, as URLs name them: these may be anywhere."""
    commands: bool = False

    def names(self, host: str, port: int) -> bool:
        """Whether ``host`` was allowed by name."""
        shown = f"[{host}]" if ":" in host else host
        return any(entry.lower() in (host, shown, f"{shown}:{port}") for entry in self.allowed)


class Place(NamedTuple):
    """Where a URL leads."""

    host: str
    """In lower case, without brackets."""
    port: int
    secure: bool
    netloc: str
    """As a request names it."""
    target: str
    """Path and query."""


def place_of(url: str) -> Place:
    """Return where a URL leads that the spec has let through."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.hostname or "", parts.port or (443 if secure else 80), secure, parts.netloc, target)


def is_public(address: str) -> bool:
    """Whether an address is one of the internet: not this machine, a private network, a link, a metadata service or a group."""
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif any(found in network for network in _CARRIERS):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def refusal(place: Place, addresses: Sequence[str], rules: Rules) -> str:
    """Return why nobody may be called at ``addresses``; empty if they may. One that is not public spoils all: none is tried."""
    closed = [] if rules.names(place.host, place.port) else [address for address in addresses if not is_public(address)]
    if not closed:
        return ""
    return (
        f"{place.host} is {closed[0]}, which is no address of the internet; it is called only if the server is started with "
        f"--hook-allow {place.netloc}"
    )


def check_hooks(hooks: Sequence[HookSpec], rules: Rules, secret: Callable[[str], bytes]) -> None:
    """Refuse at once what would be refused at every call. Raises `SpecError`, naming the hook and what to do."""
    for at, hook in enumerate(hooks):
        path = f"hooks[{at}]"
        if hook.url is None:
            if not rules.commands:
                raise SpecError(
                    f"{path}.command: this server runs no commands for deployments, so nothing was changed; its owner allows them by "
                    "starting it with --hook-commands"
                )
            continue
        place = place_of(hook.url)
        literal = [place.host] if _is_address(place.host) else ["127.0.0.1"] if place.host == "localhost" else []
        if said := refusal(place, literal, rules):
            raise SpecError(f"{path}.url: {said}; nothing was changed")
        if hook.secret:
            try:
                secret(hook.secret)
            except SpecError as error:
                raise SpecError(f"{path}.secret: {error}; nothing was changed") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
