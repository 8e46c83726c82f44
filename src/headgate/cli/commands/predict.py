"""Send data to a deployment and print what it answers, one row a line; an answer in parts as they come. DATA is a JSON row or a list of
them, or a file: .json, .csv, .parquet, .npy; '-' (or nothing) reads JSON from standard input.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.cli.arguments import add_connection, add_output, home_of
from headgate.cli.connection import connect, key_of, live_server
from headgate.cli.flags import count
from headgate.cli.output import emit
from headgate.cli.rows import Rows, read
from headgate.errors import InvalidRequest

if TYPE_CHECKING:
    from headgate.client import Client

_AT_ONCE = 1000
"""Rows of one request: well below the default queue and the limit of a JSON body."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", help="the deployment")
    parser.add_argument("data", metavar="DATA", nargs="?", default="-", help="JSON, a file, or '-' for standard input")
    parser.add_argument("--version", type=count, metavar="N", help="ask this version of the model")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds the answer may take")
    parser.add_argument("--url", help="the inference port (default: as the server says)")
    add_connection(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Send the data and print the answer."""
    from headgate import Client

    data = read(args.data)
    with Client(_url(args), key=key_of(args), ca=args.ca) as client:
        if isinstance(data, dict) and client.metadata(args.name, version=args.version).streams:
            return _print_parts(client, args, data)
        answer = _ask(client, args, data)
    lines = answer if isinstance(answer, list) else [answer]
    emit(args.output, answer, lambda: "\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    return 0


def _print_parts(client: Client, args: argparse.Namespace, row: dict[str, Any]) -> int:
    """Print each part when it comes; as JSON for programs, all of them at the end."""
    parts = []
    for outputs in client.stream(args.name, row, version=args.version, timeout=args.timeout):
        part = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in outputs.items()}
        if args.output == "json":
            parts.append(part)
        else:
            print(json.dumps(part, ensure_ascii=False), flush=True)
    emit(args.output, parts, str)
    return 0


def _url(args: argparse.Namespace) -> str:
    if args.url:
        return str(args.url)
    # The home knows it without a key for the control API.
    running = None if args.server else live_server(home_of(args))
    server = running or connect(args).get("/status")["server"]
    return str(server["inference_url"])


def _ask(client: Client, args: argparse.Namespace, data: Any) -> Any:
    """Return the answer to all of ``data``, asked for in parts where it is long."""
    options = {"version": args.version, "timeout": args.timeout}
    if isinstance(data, Rows):
        data = data.typed(client.metadata(args.name, version=args.version))
    if hasattr(data, "tolist"):
        return _in_parts(data, lambda part: _values(client.predict(args.name, part, **options)))
    if isinstance(data, list):
        return _in_parts(data, lambda part: client.predict_rows(args.name, part, **options))
    return client.predict_rows(args.name, data, **options)


def _in_parts(data: Any, ask: Callable[[Any], Any]) -> Any:
    """Return the answers to all of ``data``, one after another."""
    if len(data) <= _AT_ONCE:
        return ask(data)
    answers: list[Any] = []
    for start in range(0, len(data), _AT_ONCE):
        try:
            answers += ask(data[start : start + _AT_ONCE])
        except InvalidRequest as error:
            # What the server counts begins with the part.
            raise type(error)(f"in the {_AT_ONCE} rows from row {start} on: {error}") from None
    return answers


def _values(outputs: Any) -> Any:
    """Return arrays as lists; several outputs as one row after another."""
    if not isinstance(outputs, dict):
        return outputs.tolist()
    columns = {name: array.tolist() for name, array in outputs.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
