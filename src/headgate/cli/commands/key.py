"""Create, list and revoke API keys. With at least one key, every request needs one; revoked keys are refused within 5 seconds."""

from __future__ import annotations

import argparse

from headgate.cli.arguments import add_connection, add_output
from headgate.cli.catalog import Catalog, open_catalog
from headgate.cli.output import emit, note, table, when
from headgate.errors import InvalidRequest

SCOPES = ("infer", "feedback", "admin", "gateway")
"""What a key may be for."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("action", choices=("create", "list", "revoke"))
    parser.add_argument("id", metavar="ID", nargs="?", help="the key to revoke, as 'list' shows it")
    parser.add_argument("--scope", action="append", choices=SCOPES, help="what the new key is for; repeatable (default: infer)")
    parser.add_argument("--name", help="whom the new key is for, for the list")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    if (args.action == "revoke") != (args.id is not None):
        raise InvalidRequest("ID: 'revoke' needs the id of a key, as 'headgate key list' shows it; 'create' and 'list' take none")
    if args.action != "create" and (args.scope or args.name):
        raise InvalidRequest(f"--scope and --name describe a new key; '{args.action}' makes none")
    with open_catalog(args) as catalog:
        {"create": _create, "list": _list, "revoke": _revoke}[args.action](args, catalog)
    return 0


def _create(args: argparse.Namespace, catalog: Catalog) -> None:
    scopes = args.scope or ["infer"]
    admins = [key for key in catalog.all_keys() if "admin" in key["scopes"] and key["revoked"] is None]
    created = catalog.create_key(args.name or "-".join(scopes), scopes)
    note(f"key {created['id']} with {', '.join(scopes)}; it is shown only now: use it as --key or HEADGATE_API_KEY")
    if not admins and "admin" not in scopes:
        note(
            "from now on every request needs a key, and none is for 'admin': make one, or this home can only be managed without a server"
        )
    emit(args.output, created, lambda: str(created["key"]))


def _list(args: argparse.Namespace, catalog: Catalog) -> None:
    keys = catalog.all_keys()
    rows = [(key["id"], key["name"], ", ".join(key["scopes"]), when(key["created"]), when(key["revoked"])) for key in keys]
    columns = ("ID", "NAME", "SCOPES", "CREATED", "REVOKED")
    emit(args.output, keys, lambda: table(columns, rows) if keys else "no keys: on this machine, requests need none")


def _revoke(args: argparse.Namespace, catalog: Catalog) -> None:
    catalog.revoke_key(args.id)
    emit(args.output, {"id": args.id, "revoked": True}, lambda: f"key {args.id} is revoked; it is refused within 5 seconds")
