"""A home on a disk without room: what runs goes on, what would need room is refused in words, and room is all it takes to go on."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from faulty_home import FaultyHome, echo, kill
from serving_home import Serving, failures, under_load

from headgate import errors

BYTES = 48 << 20
INODES = 1000
TALKATIVE = """

class Talkative(Pure):
    def predict(self, do: str, x: int) -> tuple[int, int]:
        print("a line of the model's own", do, flush=True)
        return super().predict(do, x)
"""


class Disk:
    """A small file system in memory under the home of a test, and what takes its room."""

    def __init__(self, home: FaultyHome, lacks: str) -> None:
        self.home = home
        self.path = home.home.path
        self._lacks = lacks
        self._ballast = self.path / "ballast"

    def fill(self) -> None:
        """Leave no room: not for another byte, or not for another file."""
        self._ballast.mkdir()
        if self._lacks == "bytes":
            with open(self._ballast / "0", "wb", buffering=0) as file:
                _until_full(lambda _: file.write(bytes(4096)))
        else:
            _until_full(lambda number: (self._ballast / str(number)).touch())

    def make_room(self) -> None:
        """Give it back."""
        for path in self._ballast.iterdir():
            path.unlink()
        self._ballast.rmdir()

    def refuses(self, *words: str) -> None:
        """Check that a command fails because of this disk, and says so."""
        ended = self.home.run(*words)
        assert ended.returncode == errors.StorageFull.exit, f"{words}: {ended.stdout}{ended.stderr}"
        assert f"no space left on the disk of {self.path}" in ended.stderr
        assert "try again" in ended.stderr

    def stored(self) -> list[str]:
        """Everything in the store, arrivals under way too, and every version of the model."""
        versions = json.loads(self.home.done("versions", "model", "--output", "json"))
        return [str(path) for path in sorted(self.home.home.store.rglob("*"))] + [json.dumps(version) for version in versions]


def _until_full(take: Callable[[int], object]) -> None:
    for number in range(BYTES):
        try:
            take(number)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return
    raise AssertionError("it cannot be filled")


@pytest.fixture(params=["bytes", "inodes"])
def disk(home: FaultyHome, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """The disk of this test's home."""
    path = home.home.path
    path.mkdir()
    options = f"size={BYTES},nr_inodes={INODES},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "headgate-test", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk is mounted for this, which takes root: {mounted.stderr.strip()}")
    yield Disk(home, request.param)
    home.close()
    subprocess.run(["umount", str(path)], check=True)


def pids(home: FaultyHome) -> dict[str, int]:
    """Return the processes of the server by id; ``observed.json`` is as old as the last byte that found room."""
    return {name: pid for name, (pid, *_) in home.living().items()}


def version(serving: Serving) -> int:
    """Return which version answers."""
    return int(serving.ask("model", echo(1)).json["output_1"])


def test_a_full_disk_costs_no_request_and_is_named(disk: Disk) -> None:
    """Models that print and requests that are logged are answered all the while, a replica that dies comes back; push and deploy fail,
    naming disk and path, and leave nothing; status and logs answer. With room again everything works, by the same processes."""
    home = disk.home
    model = home.model("model", "Talkative", 1, TALKATIVE)
    serving = home.serve(model, "--threads", "1", "--access-log").until_ready("model").until_settled()
    before, stored = pids(home), disk.stored()
    with under_load(serving.url, "model", home.folder) as load:
        disk.fill()
        home.model("model", "Talkative", 2, TALKATIVE)
        disk.refuses("push", model)
        disk.refuses("deploy", model)
        disk.refuses("deploy", "model@1", "--max-rows", "7")
        assert disk.stored() == stored
        assert "model@1" in home.done("status", "model")
        assert "a line of the model's own" in home.done("logs", "model")
        kill(before["model-1.1"])
        serving.until(lambda: pids(home)["model-1.1"] != before["model-1.1"], "the replica is started again")
        load.until(20)
        assert load.records[-1]["version"] == 1
        disk.make_room()
        assert serving.status("model")["revision"] == "model-1"
        home.done("deploy", model)
        load.until(20)
        assert failures(load.end()) == []
    assert version(serving) == 2
    after = pids(home)
    assert {name for name in before if before[name] == after.get(name)} == {"control", "gateway-0"}


def test_who_dies_on_a_full_disk_comes_back(disk: Disk) -> None:
    """Killed while there is no room, gateway and replica answer again before there is any, and control when there is."""
    home = disk.home
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    disk.fill()
    before = pids(home)
    for name in before:
        kill(before[name])
    serving.until(lambda: version(serving) == 1, "it answers without a byte of room")
    disk.make_room()
    serving.until(lambda: serving.status("model")["state"] == "ready", "control works")
    home.done("deploy", home.model("model", version=2))
    assert version(serving) == 2


def test_a_home_without_room_is_not_opened(disk: Disk) -> None:
    """Without a server push fails in the same words, and so does serve, which starts nothing; with room both work."""
    home = disk.home
    home.done("push", home.model("model"))
    stored = disk.stored()
    disk.fill()
    model = home.model("model", version=2)
    disk.refuses("push", model)
    disk.refuses("serve", model, "--port", "0", "--control-port", "0", "--drain-delay", "0")
    disk.make_room()
    assert disk.stored() == stored
    assert home.done("push", model).strip() == "model@2"
    assert version(home.serve(model, "--threads", "1").until_ready("model")) == 2
