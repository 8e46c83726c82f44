"""The entry point: choose the command, run it, and turn an error into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from headgate import __version__
from headgate.errors import HeadgateError, InvalidRequest, did_you_mean

COMMANDS = {
    "serve": "serve models in the foreground: endpoint, docs and metrics",
    "push": "package a model and register it as a new version",
    "deploy": "deploy a version, or a model file, to the running server",
    "apply": "deploy what a file declares, or show what that would change",
    "rollout": "see and steer how a new version takes over",
    "rollback": "let the version serve again that served before",
    "predict": "send rows or arrays to a deployment",
    "status": "show what is deployed and how it is",
    "logs": "show what the replicas of a deployment wrote",
    "models": "list the models of the registry",
    "versions": "list the versions of a model",
    "alias": "point an alias such as 'champion' at a version, or remove it",
    "key": "create, list and revoke API keys",
    "stop": "end a deployment, or the server",
}
"""Every command and what it does; its module is ``headgate.cli.commands.<name>``."""

HIDDEN = frozenset({"up"})
"""Commands that Headgate calls itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except HeadgateError as error:
        return _failed(str(error), error.exit)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; without this the interpreter complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(f"unexpected {type(error).__name__}: {error}; set HEADGATE_DEBUG=1 to see where, and please report it", 1)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(_help(), file=sys.stderr)
        return InvalidRequest.exit
    word, *rest = arguments
    if word in ("-h", "--help", "help"):
        print(_help())
        return 0
    if word in ("-V", "--version"):
        print(f"headgate {__version__}")
        return 0
    if word not in COMMANDS and word not in HIDDEN:
        raise InvalidRequest(_unknown(word))
    from headgate.cli.arguments import Parser

    module = importlib.import_module(f"headgate.cli.commands.{word}")
    parser = Parser(prog=f"headgate {word}", description=module.__doc__)
    module.arguments(parser)
    code: int = module.run(parser.parse(rest))
    return code


def _unknown(word: str) -> str:
    if word.startswith("-"):
        return f"{word}: there is no such flag{did_you_mean(word, ['--help', '--version']) or '.'} Flags of a command come after it"
    return f"{word}: there is no such command{did_you_mean(word, COMMANDS) or '.'} 'headgate --help' lists them"


def _help() -> str:
    lines = [f"  {name:<10} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: headgate COMMAND [...]",
            "",
            "Take a trained model to a production endpoint, and keep it right there.",
            "",
            "commands:",
            *lines,
            "",
            "'headgate COMMAND --help' explains one. Start with: headgate serve model.onnx",
        ]
    )


def _failed(message: str, code: int) -> int:
    """Print an error as one line; inside an ``except`` block, the traceback too where HEADGATE_DEBUG asks for it."""
    if os.environ.get("HEADGATE_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(f"headgate: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
