"""Write ``docs/reference/*.md`` from the code: ``python tools/reference.py [--check]``.

Commands from the parsers, settings from the spec, errors from the error tree, metrics from their table, plugins from the shelves: a
reference that is written by hand is wrong by the next release. ``--check`` writes nothing and fails when a page is out of date.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from headgate import errors, plugins, spec
from headgate.cli import main as command_line
from headgate.cli.arguments import Parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "headgate"
GRPC = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED "
    "FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
SHELVES = ("runtimes", "protocols", "executors", "package.folders")


def commands() -> Iterator[str]:
    """Yield the page of the command line: a heading for each command, a row for each argument."""
    yield "# Commands\n"
    yield "`headgate COMMAND --help` says the same. Exit codes: [errors](errors.md).\n"
    for name, summary in command_line.COMMANDS.items():
        module = importlib.import_module(f"headgate.cli.commands.{name}")
        parser = Parser(prog=f"headgate {name}", description=module.__doc__)
        module.arguments(parser)
        yield f"## headgate {name}\n"
        yield f"{_prose(module.__doc__) or summary}\n"
        yield from _arguments(parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, inner in action.choices.items():
                    yield f"### headgate {name} {word}\n"
                    yield from _arguments(inner)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    # RawDescriptionHelpFormatter would wrap the usage to the width of somebody's terminal.
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
    usage = parser.format_usage().rstrip().replace("\n" + " " * len("usage: "), "\n").removeprefix("usage: ")
    yield f"```\n{usage}\n```\n"
    rows = [_argument(action) for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    if rows:
        yield "| argument | |\n|---|---|"
        yield from rows
        yield ""


def _argument(action: argparse.Action) -> str:
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    value = (
        ""
        if action.nargs == 0
        else action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    )
    shown = f"{names} {_cell(value)}".rstrip() if names else f"`{_cell(value)}`"
    return f"| {shown} | {_cell((action.help or '').replace('%%', '%'))} |"


def settings() -> Iterator[str]:
    """Yield the page of the deployment spec: a row for each setting."""
    yield "# Settings of a deployment\n"
    yield "A deployment is described by these: the body of `PUT /deployments/{name}`, or flags of `headgate deploy`, `serve`."
    yield 'Durations: `"250ms"`, `"10s"`, `"5m"`, `"1h"` or seconds. Sizes: `"512MiB"`, `"2GiB"` or bytes.'
    yield "An unknown key is an error.\n"
    yield "| setting | type | default | |\n|---|---|---|---|"
    yield from _settings(spec.DeploymentSpec, "")
    yield ""


def _settings(kind: type[msgspec.Struct], path: str) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    documents = _attribute_docstrings(kind)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _settings(hint, f"{path}{field.name}.")
            continue
        default = "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
        yield f"| `{path}{field.name}` | {_type(hint)} | {default} | {_cell(documents.get(field.name, ''))} |"
        if get_origin(hint) is tuple and issubclass(get_args(hint)[0], msgspec.Struct):
            yield from _settings(get_args(hint)[0], f"{path}{field.name}[].")


def _type(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        units = [meta.extra["unit"] for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta) and meta.extra]
        return units[0] if units else _type(get_args(hint)[0])
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "objects"
    if get_origin(hint) is tuple:
        return f"list of {_type(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(map(_type, get_args(hint)))
    return {int: "integer", float: "number", str: "string", bool: "boolean"}.get(hint, str(hint))


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """Return the strings that stand below the attributes of a class, which Python itself throws away."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for attribute, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(attribute, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(attribute.target)] = str(text.value.value)
    return found


def error_codes() -> Iterator[str]:
    """Yield the page of errors: a row for each code."""
    yield "# Errors\n"
    yield 'Every answer that is not a success holds `{"error": "..."}`; the control API adds `"code"`. The command line prints the'
    yield "text and ends with the exit code. In Python each is a class of `headgate.errors`, all below `HeadgateError`.\n"
    yield "| code | HTTP | gRPC | exit | class | |\n|---|---|---|---|---|---|"
    for kind in _tree(errors.HeadgateError):
        numbers = f"{kind.status} | {GRPC[kind.grpc]} | {kind.exit}"
        yield f"| `{kind.code}` | {numbers} | `{kind.__name__}` | {_cell(kind.__doc__)} |"
    yield ""


def _tree(kind: type[errors.HeadgateError]) -> Iterator[type[errors.HeadgateError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "headgate.errors":
            yield from _tree(child)


def metrics() -> Iterator[str]:
    """Yield the page of metrics: a row for each."""
    yield "# Metrics\n"
    yield "`GET /metrics` on the inference port, in the text format of Prometheus. Durations are seconds.\n"
    yield "| metric | type | |\n|---|---|---|"
    for name, kind, text in sorted(set(_metrics())):
        yield f"| `{name}` | {kind} | {_cell(text)} |"
    yield ""


def _metrics() -> Iterator[tuple[str, str, str]]:
    """Find where the source names a metric: ``Family(name, kind, text, ...)``, or ``(name, text, ...)`` for a gauge."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            words = [part.value for part in parts[:3] if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if len(words) < 2 or not words[0].startswith("headgate_"):
                continue
            yield (words[0], words[1], words[2]) if len(words) == 3 else (words[0], "gauge", words[1])


def shelves() -> Iterator[str]:
    """Yield the page of plugins: a heading for each shelf, a row for each plugin."""
    yield "# Plugins\n"
    yield "What this version brings. Other distributions add theirs by an entry point in the group of the shelf's name.\n"
    for shelf in SHELVES:
        yield f"## headgate.{shelf}\n"
        yield "| name | |\n|---|---|"
        for name, kind in plugins.load_all(f"headgate.{shelf}"):
            if kind.__module__.startswith("headgate."):
                endings = " ".join(f"`{ending}`" for ending in sorted(getattr(kind, "suffixes", ())))
                yield f"| `{name}` | {_cell(kind.__doc__ or '')}{f' Files: {endings}.' if endings else ''} |"
        yield ""


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("``", "`")


def _cell(text: Any) -> str:
    """Return ``text`` on one line, fit for a table."""
    return " ".join(_prose(str(text)).split()).replace("|", "\\|")


WRITERS: dict[str, Callable[[], Iterator[str]]] = {
    "commands.md": commands,
    "settings.md": settings,
    "errors.md": error_codes,
    "metrics.md": metrics,
    "plugins.md": shelves,
}


def render(page: str) -> str:
    """Return the text of one page of the reference."""
    lines = [*WRITERS[page]()]
    head = "<!-- Written by tools/reference.py from the code: change the code, then run `make docs`. -->\n"
    return "\n".join([head, *lines]).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write every page, or say which are out of date."""
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args(arguments).check
    PAGES.mkdir(parents=True, exist_ok=True)
    stale = []
    for page in WRITERS:
        path, text = PAGES / page, render(page)
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(page)
        if not check:
            path.write_text(text)
    said = f"{', '.join(stale)} {'out of date: run make docs' if check else 'written'}" if stale else "up to date"
    print(f"docs/reference: {said}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
