"""Models, versions and aliases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from headgate.errors import Conflict, NotFound, SpecError, UntrustedPickle
from headgate.home import Home
from headgate.package.manifest import Manifest, hash_file
from headgate.registry.access import registry_of
from headgate.registry.registry import Origin, Registry
from headgate.testing.clock import ManualClock

Store = Callable[..., str]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(tmp_path: Path, clock: ManualClock) -> Iterator[Registry]:
    with registry_of(Home(tmp_path / "home"), clock) as registry:
        yield registry


@pytest.fixture
def store(registry: Registry, make_package: Callable[..., Manifest]) -> Store:
    """Stores a package with that content, locked that way, and returns its digest."""

    def put(content: bytes, lock: bytes = b"", name: str = "m.onnx", runtime: str = "onnx") -> str:
        with registry.store.staging() as folder:
            manifest = make_package(folder, {name: content})
            if lock:
                (folder / "pylock.toml").write_bytes(lock)
            manifest = msgspec.structs.replace(manifest, runtime=runtime, lock=hash_file(folder / "pylock.toml") if lock else None)
            (folder / "manifest.json").write_bytes(manifest.encode())
            return registry.store.add(folder)

    return put


def test_versions_are_numbered_from_one(registry: Registry, store: Store, clock: ManualClock) -> None:
    """Each new package of a model is its next version; what was said about it is kept."""
    first, new = registry.register("fraud", store(b"1"), Origin(by="me", note="the first"))
    clock.advance(60)
    second, _ = registry.register("fraud", store(b"2"))
    other, _ = registry.register("churn", store(b"1"))
    assert new
    assert [version.reference for version in (first, second, other)] == ["fraud@1", "fraud@2", "churn@1"]
    assert (first.created_by, first.note, second.created - first.created) == ("me", "the first", 60)
    assert registry.versions("fraud") == [first, second]
    assert [(model.name, model.versions) for model in registry.models()] == [("churn", 1), ("fraud", 2)]
    assert registry.model("fraud") == registry.models()[1]
    assert msgspec.json.decode(msgspec.json.encode(first), type=type(first)) == first


def test_a_number_may_be_asked_for(registry: Registry, store: Store) -> None:
    """Where clients ask for versions by the numbers of a folder they get those; a number keeps its package for ever, the same package
    may have two, and the next one follows the highest."""
    seventh, new = registry.register("fraud", store(b"7"), Origin(number=7))
    assert (seventh.reference, new) == ("fraud@7", True)
    assert registry.register("fraud", store(b"7"), Origin(number=7)) == (seventh, False)
    assert registry.register("fraud", store(b"7"), Origin(number=3))[0].reference == "fraud@3"
    with pytest.raises(Conflict, match="fraud@7 is another package, and a version never changes; nothing was registered"):
        registry.register("fraud", store(b"8"), Origin(number=7))
    assert registry.register("fraud", store(b"8"))[0].reference == "fraud@8"
    assert [version.number for version in registry.versions("fraud")] == [3, 7, 8]
    assert registry.version("fraud").number == 8
    with pytest.raises(NotFound, match="fraud@5: there is no such version; fraud has 3, 7, 8"):
        registry.version("fraud@5")
    for number in (0, -1, 1 << 63):
        with pytest.raises(SpecError, match=f"number: expected a whole number of at least 1, got {number}"):
            registry.register("fraud", store(b"9"), Origin(number=number))


def test_what_is_registered_stays_registered(registry: Registry, store: Store) -> None:
    """The same package again is the version there is, whatever else is said about it this time."""
    first, _ = registry.register("fraud", store(b"1"), Origin(by="me"))
    registry.register("fraud", store(b"2"))
    assert registry.register("fraud", store(b"1"), Origin(by="you", note="again", relock=True)) == (first, False)
    assert len(registry.versions("fraud")) == 2


def test_the_same_source_locked_anew(registry: Registry, store: Store) -> None:
    """Another lock of the same source is the version there is, unless the user asks for it to be a new one."""
    first, _ = registry.register("fraud", store(b"1", b"lock of monday"))
    again, new = registry.register("fraud", store(b"1", b"lock of tuesday"))
    assert (again, new) == (first, False)
    relocked, new = registry.register("fraud", store(b"1", b"lock of tuesday"), Origin(relock=True))
    assert (relocked.number, new) == (2, True)
    assert relocked.digest != first.digest
    assert registry.known("fraud", first.source_digest) == relocked
    assert registry.known("fraud", "sha256:" + "0" * 64) is None
    assert registry.known("churn", first.source_digest) is None


def test_a_package_must_be_there(registry: Registry) -> None:
    """A version points to a package in the store, or it does not exist."""
    with pytest.raises(NotFound, match="not in this store"):
        registry.register("fraud", "sha256:" + "0" * 64)
    assert registry.models() == []


def test_a_pickle_needs_somebody_who_trusts_it(registry: Registry, store: Store) -> None:
    """The registry, too, refuses a pickle that nobody vouched for, and keeps who did."""
    digest = store(b"x", name="m.joblib", runtime="sklearn")
    with pytest.raises(UntrustedPickle, match="--trust-pickle"):
        registry.register("fraud", digest)
    assert registry.models() == []
    version, _ = registry.register("fraud", digest, Origin(trusted_by="me"))
    assert registry.version("fraud").trusted_by == version.trusted_by == "me"


def test_references(registry: Registry, store: Store) -> None:
    """A bare name is the newest version, a number that one, an alias where it points."""
    for content in (b"1", b"2", b"3"):
        registry.register("fraud", store(content))
    registry.set_alias("fraud", "champion", 2)
    assert [registry.version(text).number for text in ("fraud", "fraud@1", "fraud@champion", "fraud@02")] == [3, 1, 2, 2]
    assert registry.version("fraud@2").aliases == ("champion",)


@pytest.mark.parametrize(
    ("reference", "kind", "said"),
    [
        ("fruad", NotFound, "did you mean 'fraud'"),
        ("x", NotFound, "there are: fraud"),
        ("fraud@7", NotFound, "fraud has 1 to 1"),
        ("fraud@0", NotFound, "fraud has 1 to 1"),
        ("fraud@" + "9" * 100, NotFound, "fraud has 1 to 1"),
        ("fraud@champoin", NotFound, "did you mean 'champion'"),
        ("../fraud", SpecError, "model"),
        ("fraud@a/b", SpecError, "model"),
        ("fraud' OR 1=1 --", SpecError, "model"),
    ],
)
def test_references_to_nothing(reference: str, kind: type[Exception], said: str, registry: Registry, store: Store) -> None:
    """The refusal says what there is, or what was probably meant."""
    registry.register("fraud", store(b"1"))
    registry.set_alias("fraud", "champion", 1)
    with pytest.raises(kind) as caught:
        registry.version(reference)
    assert said in str(caught.value)


def test_aliases_move_and_are_remembered(registry: Registry, store: Store, clock: ManualClock) -> None:
    """Setting an alias moves it; the history keeps every move, and nothing for one that changed nothing."""
    registry.register("fraud", store(b"1"))
    registry.register("fraud", store(b"2"))
    registry.set_alias("fraud", "champion", 1, by="me")
    registry.set_alias("fraud", "champion", 1, by="me")
    clock.advance(5)
    assert registry.set_alias("fraud", "champion", 2).aliases == ("champion",)
    assert registry.model("fraud").aliases == {"champion": 2}
    assert registry.version("fraud@1").aliases == ()
    registry.delete_alias("fraud", "champion", by="you")
    assert registry.model("fraud").aliases == {}
    moves = [(move.version, move.updated - 1_700_000_000, move.updated_by) for move in registry.alias_history("fraud")]
    assert moves == [(1, 0, "me"), (2, 5, ""), (None, 5, "you")]


@pytest.mark.parametrize(
    ("model", "alias", "version", "kind"),
    [
        ("fraud", "3", 1, SpecError),
        ("fraud", "", 1, SpecError),
        ("fraud", "a/b", 1, SpecError),
        ("fraud", "champion", 2, NotFound),
        ("fraud", "champion", 0, NotFound),
        ("churn", "champion", 1, NotFound),
    ],
)
def test_wrong_aliases(model: str, alias: str, version: int, kind: type[Exception], registry: Registry, store: Store) -> None:
    """An alias is no number, and points to a version that exists; deleting one that does not exist is said."""
    registry.register("fraud", store(b"1"))
    with pytest.raises(kind):
        registry.set_alias(model, alias, version)
    with pytest.raises(NotFound):
        registry.delete_alias(model, "champion")
    assert registry.alias_history("fraud") == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", ".x", "x" * 129, "ü", "a\n", "a%2e"])
def test_names_are_checked(name: str, registry: Registry, store: Store) -> None:
    """One list of allowed letters, on writing and on reading."""
    digest = store(b"1")
    with pytest.raises(SpecError, match="name"):
        registry.register(name, digest)
    with pytest.raises(NotFound):
        registry.versions(name)


def test_fifty_registrations_at_once(registry: Registry, store: Store) -> None:
    """Fifty threads register fifty packages of one model: fifty versions without a gap, each package once, no error."""
    digests = [store(str(number).encode()) for number in range(50)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda digest=digest: found.append(registry.register("fraud", digest)[0].number))
        for digest in digests
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 51))
    assert {version.digest for version in registry.versions("fraud")} == set(digests)
