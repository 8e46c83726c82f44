"""The parser every command uses, and the flags that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from headgate.errors import InvalidRequest, did_you_mean
from headgate.home import Home

Group = argparse._ActionsContainer
"""What arguments can be added to: a parser, or a group of one. The only public name of it is in the type stubs."""


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises `InvalidRequest` instead of exiting, and proposes the likely spelling of a flag."""

    def __init__(self, **settings: Any) -> None:
        # An abbreviation that is unique today is ambiguous after the next release.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse ``words``; flags and positionals may be mixed in any order. Raises `InvalidRequest` for what it does not know."""
        parsed, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0])
            flag = word.partition("=")[0]
            known = [option for option in self._option_string_actions if option.startswith("--")]
            kind = "flag" if flag.startswith("-") else "argument"
            raise InvalidRequest(
                f"{flag}: there is no such {kind}{did_you_mean(flag, known) or '.'} '{self.prog} --help' lists them"
            )
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise `InvalidRequest` with ``message``."""
        raise InvalidRequest(f"{message.removeprefix('argument ')}; see '{self.prog} --help'")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``."""
    parser.add_argument("--output", choices=("text", "json"), default="text", help="json: the result on stdout, all else on stderr")


def add_home(parser: Group) -> None:
    """Add ``--home``."""
    parser.add_argument("--home", metavar="DIR", help="folder of the state (default: $HEADGATE_HOME, else ~/.headgate)")


def home_of(args: argparse.Namespace) -> Home:
    """Return the home the command is about."""
    return Home(args.home) if args.home else Home.default()


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the server is and who is asking."""
    group = parser.add_argument_group("the server")
    group.add_argument("--server", metavar="URL", help="its control API (default: $HEADGATE_SERVER, else the server of the home)")
    add_access(group)


def add_access(group: Group) -> None:
    """Add the flags that say who is asking, whom to trust, and which home is meant."""
    group.add_argument("--key", help="API key (default: $HEADGATE_API_KEY)")
    group.add_argument("--ca", metavar="FILE", help="certificate authority to trust for an https server")
    add_home(group)


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how long a deploy is followed."""
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--no-wait", action="store_true", help="return at once; 'headgate status' shows what becomes of it")
    ends.add_argument(
        "--follow", action="store_true", help="with a rollout, follow it as 'headgate rollout watch' does, with its exit code"
    )
    parser.add_argument(
        "--timeout-seconds",
        type=float,
        default=600.0,
        metavar="S",
        help="how long to wait until it serves, or has its first share (default: 600)",
    )


def add_packaging(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how a model file becomes a package."""
    group = parser.add_argument_group("packaging")
    group.add_argument(
        "--example", metavar="FILE", help="input example (.json, .csv, .npy), for models that do not say what they take"
    )
    group.add_argument("--requirements", metavar="FILE", help="requirements of the model: it gets a locked environment of its own")
    group.add_argument(
        "--include", metavar="PATH", action="append", default=[], help="file or folder to put beside the model; repeatable"
    )
    group.add_argument("--trust-pickle", action="store_true", help="load pickled files (.joblib, .pkl): they can run any code")
    group.add_argument(
        "--relock", action="store_true", help="lock the requirements anew: a new version even where the source is the same"
    )
