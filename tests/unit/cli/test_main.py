"""The surface of the command line: commands, flags, exit codes, and where what is printed."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from headgate import errors
from headgate.cli import main as cli
from headgate.cli.arguments import Parser
from headgate.cli.main import main

COMMANDS = sorted({*cli.COMMANDS, *cli.HIDDEN})


def test_every_module_is_a_command() -> None:
    """The table lists exactly the modules there are."""
    folder = Path(importlib.import_module("headgate.cli.commands").__path__[0])
    assert sorted(path.stem for path in folder.glob("[a-z]*.py")) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help says what a command does and describes each of its flags, and ends with 0."""
    module = importlib.import_module(f"headgate.cli.commands.{command}")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert " ".join((module.__doc__ or "?").split()[:5]) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "serve"])
def test_every_command_speaks_json(command: str) -> None:
    """All but the server itself take --output json."""
    parser = Parser(prog=command)
    importlib.import_module(f"headgate.cli.commands.{command}").arguments(parser)
    assert "--output" in parser.format_help()


def test_hidden_commands_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Help lists what is meant for people, each with what it does."""
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed and summary in listed for name, summary in cli.COMMANDS.items())
    assert not any(f"  {name} " in listed for name in cli.HIDDEN)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["srve", "x.onnx"], "srve: there is no such command; did you mean 'serve'?"),
        (["--versoin"], "--versoin: there is no such flag; did you mean '--version'?"),
        (["serve", "--replica", "2"], "--replica: there is no such flag; did you mean '--replicas'?"),
        (["deploy", "fraud@1", "--max-row=3"], "--max-row: there is no such flag; did you mean '--max-rows'?"),
        (["models", "fraud"], "fraud: there is no such argument"),
        (["versions"], "MODEL"),
        (["serve", "--port", "many"], "--port: invalid int value"),
        (["key", "make"], "invalid choice: 'make'"),
        (["alias", "fraud", "champion"], "VERSION: give the version"),
        (["stop"], "NAME: give the deployment to end, or --server"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is mistyped is refused with 2, on standard error, with the likely spelling; nothing is on standard output."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("headgate: ")
    assert message in said.err
    assert said.out == ""


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to do is a wrong use, answered with the help."""
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [errors.NotFound, errors.UnsupportedModel, errors.Conflict, errors.NotReady, errors.Unauthenticated]
)
def test_errors_are_one_line_and_an_exit_code(
    error: type[errors.HeadgateError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of ours ends with its own exit code and its message, without a traceback."""

    def fail(_: Any) -> int:
        raise error("what happened; what to do")

    monkeypatch.delenv("HEADGATE_DEBUG", raising=False)
    monkeypatch.setattr(importlib.import_module("headgate.cli.commands.models"), "run", fail)
    assert main(["models"]) == error.exit
    assert capsys.readouterr().err == "headgate: what happened; what to do\n"


def test_an_unexpected_error_says_how_to_see_more(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody thought of is one line with the way to its traceback, which HEADGATE_DEBUG=1 then prints."""

    def fail(_: Any) -> int:
        raise ZeroDivisionError("ouch")

    monkeypatch.delenv("HEADGATE_DEBUG", raising=False)
    monkeypatch.setattr(importlib.import_module("headgate.cli.commands.models"), "run", fail)
    assert main(["models"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: ouch" in said
    assert "HEADGATE_DEBUG=1" in said
    assert "Traceback" not in said
    monkeypatch.setenv("HEADGATE_DEBUG", "1")
    assert main(["models"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_server_is_said_with_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that needs a server names the home it looked in, and ends with 8."""
    monkeypatch.delenv("HEADGATE_SERVER", raising=False)
    assert main(["status", "--home", str(tmp_path)]) == errors.ServerUnreachable.exit
    assert f"no server runs on {tmp_path}" in capsys.readouterr().err


def test_a_server_that_is_gone_is_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server.json that a killed server left behind is not believed, even where its pid lives again as another process."""
    (tmp_path / "run").mkdir()
    server = {"pid": 1, "started": 3, "inference_url": "http://127.0.0.1:1", "control_url": "http://127.0.0.1:1"}
    (tmp_path / "run" / "server.json").write_text(json.dumps(server))
    assert main(["status", "--home", str(tmp_path)]) == errors.ServerUnreachable.exit
    assert "no server runs on" in capsys.readouterr().err


def test_serve_refuses_a_missing_file_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped file is said at once, with the likely one; no server is started for it."""
    (tmp_path / "fraud.onnx").write_bytes(b"x")
    assert main(["serve", str(tmp_path / "fraud.onx"), "--home", str(tmp_path / "home")]) == errors.NotFound.exit
    assert "did you mean 'fraud.onnx'?" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_one_name_is_not_for_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--name with several targets is refused: the second would replace the first."""
    assert main(["serve", "a.onnx", "b.onnx", "--name", "fraud", "--home", str(tmp_path / "home")]) == 2
    assert "--name: names one model, but there are 2 targets" in capsys.readouterr().err
