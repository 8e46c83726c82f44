"""The rooms of the supervisor that need no process: options, addresses, files, logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import SpecError
from headgate.home import Home
from headgate.supervision import files, listeners, logs, processes
from headgate.supervision.options import ServeOptions, check

WIDE = {"host": "0.0.0.0"}


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """The two files of TLS, as options."""
    for name in ("cert", "key"):
        (tmp_path / name).write_text("pem")
    return {"tls_cert": str(tmp_path / "cert"), "tls_key": str(tmp_path / "key")}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    """Addresses of this machine alone are served without keys and TLS."""
    try:
        check(ServeOptions(home="h", host=host, control_host=host))
    except SpecError as error:
        pytest.skip(f"this machine has no {host}: {error}")


@pytest.mark.parametrize("where", ["host", "control_host"])
@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.7"])
def test_other_machines_need_keys_and_tls(where: str, host: str, tls: dict[str, str]) -> None:
    """On either port one of the two is not enough; both are, and so is the user's word."""
    for given in ({}, {"require_key": True}, tls):
        with pytest.raises(SpecError, match=r"keys and TLS.*nothing was started.*--insecure"):
            check(ServeOptions(home="h", **{where: host}, **given))  # type: ignore[arg-type]
    check(ServeOptions(home="h", **{where: host}, **tls, require_key=True))  # type: ignore[arg-type]
    check(ServeOptions(home="h", **{where: host}, insecure=True))  # type: ignore[arg-type]


def test_half_of_tls_is_refused(tls: dict[str, str]) -> None:
    """A certificate without its key, or one that cannot be read, names the option that is wrong."""
    with pytest.raises(SpecError, match="--tls-key is not given"):
        check(ServeOptions(home="h", tls_cert=tls["tls_cert"]))
    with pytest.raises(SpecError, match="--tls-cert, /nowhere, is not there"):
        check(ServeOptions(home="h", tls_cert="/nowhere", tls_key=tls["tls_key"]))


@pytest.mark.parametrize(
    ("given", "message"), [({"port": 70000}, "--port 70000"), ({"host": "no.such.invalid"}, "no.such.invalid")]
)
def test_an_impossible_address_is_refused(given: dict[str, Any], message: str) -> None:
    """A port out of range and an unknown host are named."""
    with pytest.raises(SpecError, match=message):
        check(ServeOptions(home="h", **given))


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    """The error says which address, not only what the system calls it."""
    with pytest.raises(SpecError, match=r"192\.0\.2\.7 port 0"):
        listeners.listen(listeners.resolve("192.0.2.7", 0, "port"), "port")


def test_a_url_is_one_this_machine_can_use() -> None:
    """A socket on every interface is named by loopback; the scheme follows TLS."""
    with listeners.listen(listeners.resolve("", 0, "port"), "port") as listener:
        port = listener.getsockname()[1]
        assert listeners.url(listener, secure=True) == f"https://127.0.0.1:{port}"


def test_desired_processes_are_read(tmp_path: Path) -> None:
    """Known keys are taken, unknown ones of a later version are passed over, a missing file means none."""
    path = tmp_path / "desired.json"
    assert files.read_desired(path) == {}
    path.write_text(json.dumps({"processes": [{"id": "a-1.1", "argv": ["x"], "env": {"K": "v"}, "grace": 3, "later": 1}]}))
    assert files.read_desired(path)["a-1.1"] == processes.ProcessSpec("a-1.1", ["x"], {"K": "v"}, 3.0, oom_adjust=500)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"processes": 3}',
        '{"processes": [7]}',
        '{"processes": [{"id": "a", "argv": []}]}',
        '{"processes": [{"id": "a", "argv": "sleep"}]}',
        '{"processes": [{"id": "a", "argv": ["x", 1]}]}',
        '{"processes": [{"id": "a", "argv": ["x"], "env": {"A": 1}}]}',
        '{"processes": [{"id": "a", "argv": ["x"], "grace": "soon"}]}',
        '{"processes": [{"id": "../a", "argv": ["x"]}]}',
        '{"processes": [{"id": "gateway-0", "argv": ["x"]}]}',
    ],
)
def test_what_is_not_a_list_of_processes_is_refused(tmp_path: Path, content: str) -> None:
    """Every malformed file raises ValueError, and nothing else; an id can neither leave the log folder nor name the gateway."""
    (tmp_path / "desired.json").write_text(content)
    with pytest.raises(ValueError, match=r"\w"):
        files.read_desired(tmp_path / "desired.json")


def test_a_long_log_is_cut_under_its_writer(tmp_path: Path) -> None:
    """What was written lies in the old part, bounded; the writer goes on at the new end of the same file."""
    log = tmp_path / "a-1.1.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"x" * 50)
        assert not logs.rotate(log, limit=50)
        writer.write(b"y" * 50)
        assert logs.rotate(log, limit=60)
        writer.write(b"z")
    assert log.read_bytes() == b"z"
    assert (tmp_path / "a-1.1.log.1").read_bytes() == b"x" * 10 + b"y" * 50


def test_a_tail_is_short_and_of_this_life(tmp_path: Path) -> None:
    """At most 20 lines and 4 KiB, nothing from before ``start``, and bytes that are not text do no harm."""
    log = tmp_path / "log"
    log.write_bytes(b"earlier\n" + b"".join(b"line %d\n" % n for n in range(30)))
    assert logs.tail(log, 8).splitlines() == [f"line {n}" for n in range(10, 30)]
    assert logs.tail(log, log.stat().st_size) == ""
    log.write_bytes(b"\xff" * 5000)
    assert len(logs.tail(log, 0)) == 4096
    assert logs.tail(tmp_path / "none", 0) == ""


def test_the_home_remembers_the_default_deployment(tmp_path: Path) -> None:
    """A start that names one is remembered by later ones that do not; an empty one is forgotten; other settings stay."""
    home = Home(tmp_path / "home").create()

    def asked(name: str | None) -> str | None:
        return files.remembered(home, ServeOptions(home=home.path, default_deployment=name)).default_deployment

    assert asked(None) is None
    assert not home.settings.exists()
    assert asked("fraud") == asked(None) == "fraud"
    home.settings.write_text(json.dumps({"default_deployment": "fraud", "later": 1}))
    assert asked("churn") == asked(None) == "churn"
    assert json.loads(home.settings.read_text()) == {"default_deployment": "churn", "later": 1}
    assert asked("") is None
    assert asked(None) is None


def test_the_home_remembers_the_model_control(tmp_path: Path) -> None:
    """Beside the default deployment, each by itself; a mode that is given replaces it."""
    home = Home(tmp_path / "home").create()

    def asked(**given: str) -> tuple[str | None, str | None]:
        found = files.remembered(home, ServeOptions(home=home.path, **given))  # type: ignore[arg-type]
        return found.model_control, found.default_deployment

    assert asked() == (None, None)
    assert asked(model_control="explicit") == ("explicit", None)
    assert asked(default_deployment="fraud") == asked() == ("explicit", "fraud")
    assert asked(model_control="none") == asked() == ("none", "fraud")


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_settings_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """They are neither ignored nor overwritten: nothing starts, and the file is named."""
    home = Home(tmp_path / "home").create()
    home.settings.write_text(text)
    with pytest.raises(SpecError, match=r"settings\.json cannot be read.*nothing was started"):
        files.remembered(home, ServeOptions(home=home.path, default_deployment="fraud"))
    assert home.settings.read_text() == text
