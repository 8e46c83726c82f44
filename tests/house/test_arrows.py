"""Who may import whom: the arrows between the rooms of the house (docs/architecture/rooms.md says why)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from source import Import, Module, foreign, modules

PORCH = (*"errors spec tensors json_tensors routes journal clock plugins telemetry home units streams".split(),)
REPLICA_FILES = ("replica", "worker", "link", "describe", "dryrun", "bootstrap", "example", "digests", "words")
REPLICA_SIDE = (*(f"serving.{name}" for name in REPLICA_FILES), "runtimes", "tensors", "errors", "plugins", "streams")
GATEWAY_PARTS = ("protocols.base", "package.signature", *PORCH)
FOLDER_PARTS = ("detect", "environment", "external", "folder", "manifest", "numbered", "signature", "textproto")
SHELVES = ("runtimes", "protocols", "executors", "drift", "package.folders")

ARROWS: dict[str, tuple[str, ...]] = {
    "porch": PORCH,
    "supervisor": ("supervisor", "supervision", "errors", "clock", "home"),
    "runtimes": REPLICA_SIDE,
    "replica side": REPLICA_SIDE,
    "gateway side": ("serving", *GATEWAY_PARTS),
    "protocols": ("protocols.base", "package.signature", *PORCH),
    "executors": ("executors.base", *PORCH),
    "drift": ("drift.base", *PORCH),
    "package": ("package", *PORCH),
    "package.folders": ("package.folders.base", *(f"package.{name}" for name in FOLDER_PARTS), *PORCH),
    "registry": ("registry", "package", *PORCH),
    "judge": ("judge", *PORCH),
    "control": ("control", "registry", "executors.base", "judge", *PORCH),
    "monitor": ("monitor", "drift.base", "package.signature", *PORCH),
    "retrain": ("retrain", "registry", "monitor", *PORCH),
    "client": ("client", *PORCH),
    "dashboard": ("dashboard", *PORCH),
    "cli": ("cli", "client", "package", "assembly", "supervisor", *PORCH),
    "testing": ("testing", "serving", "package", "registry", "control", "judge", *(f"{shelf}.base" for shelf in SHELVES), *PORCH),
}
"""Room -> prefixes of what it may import. ``assembly`` is not here: it knows everybody."""

STANDARD_LIBRARY_ONLY = ("errors", "clock", "home", "units", "streams", "plugins", "supervisor")
GATEWAY_LIBRARIES = frozenset({"msgspec", "numpy", "httptools", "uvloop", "hpack", "google"})
PORCH_LIBRARIES = frozenset({"msgspec", "numpy"})
FRAMEWORKS = frozenset(
    "onnx onnxruntime sklearn skops joblib xgboost lightgbm catboost torch tensorflow keras jax transformers ray mlflow".split()
)


def room(module: Module) -> str:
    """Return the room that ``module`` belongs to, a key of `ARROWS`, ``root`` or ``assembly``."""
    first, _, rest = module.inner.partition(".")
    if not first:
        return "root"
    if first == "serving":
        return "replica side" if rest in REPLICA_FILES else "gateway side"
    if first in PORCH:
        return "porch"
    if module.inner.startswith("package.folders"):
        return "package.folders"
    return "supervisor" if first == "supervision" else first


def own_folder(module: Module) -> str:
    """Return the folder of a plugin on a shelf (``protocols.oip``), which its files share; of a single file, its name."""
    shelf = room(module)
    plugin = module.inner.removeprefix(shelf).lstrip(".").partition(".")[0]
    return f"{shelf}.{plugin}"


def within(target: str, prefixes: tuple[str, ...]) -> bool:
    """Whether the module ``target`` (below headgate) is one of ``prefixes`` or lies below one."""
    return any(target == prefix or target.startswith(f"{prefix}.") for prefix in prefixes)


def own_imports(module: Module) -> Iterator[tuple[Import, str]]:
    """Yield the imports of Headgate's own modules, with the name below headgate. The package itself (its version) is anybody's."""
    for found in module.imports:
        if found.target.startswith("headgate."):
            yield found, found.target.removeprefix("headgate.")


def test_every_room_is_drawn() -> None:
    """A new room gets its arrows here before anything is built in it."""
    assert {room(module) for module in modules()} <= {*ARROWS, "root", "assembly"}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_follow_the_arrows(module: Module) -> None:
    """A room imports only those the design names; this holds for imports inside functions and for those of types, too."""
    here = room(module)
    if here in ("root", "assembly"):
        pytest.skip("the package itself names its public surface lazily; assembly knows everybody")
    folder = (own_folder(module),) if here in SHELVES else ()
    allowed = (*ARROWS[here], *folder)
    wrong = [f"line {found.line}: {target}" for found, target in own_imports(module) if not within(target, allowed)]
    assert not wrong, f"{module} ({here}) may import only {', '.join(allowed)}; it imports {'; '.join(wrong)}"


@pytest.mark.parametrize("module", [module for module in modules() if room(module) in SHELVES], ids=str)
def test_one_plugin_never_imports_another(module: Module) -> None:
    """A plugin can be removed by removing its file: on its own shelf it knows the base, and the files of its own folder."""
    shelf = room(module)
    allowed = (f"{shelf}.base", own_folder(module))
    wrong = [f"line {found.line}: {target}" for found, target in own_imports(module) if target.startswith(f"{shelf}.")]
    assert not [entry for entry in wrong if not within(entry.partition(": ")[2], allowed)]


def test_a_plugin_is_found_by_listing() -> None:
    """Nobody outside a shelf names what is on it, but for its base: a plugin can be added and removed without being mentioned."""
    for module in modules():
        for shelf in set(SHELVES) - {room(module)}:
            named = [target for _, target in own_imports(module) if target.startswith(f"{shelf}.")]
            wrong = [target for target in named if not within(target, (f"{shelf}.base",))]
            assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_only_the_command_line_and_assembly_import_lazily(module: Module) -> None:
    """Imports of our own modules stand at the top, where they are seen; the command line defers them to start in time."""
    if room(module) in ("cli", "assembly", "root", "testing"):
        pytest.skip("may import lazily")
    lazy = [f"line {found.line}: {target}" for found, target in own_imports(module) if found.lazy]
    assert not lazy, f"{module}: {'; '.join(lazy)}"


def test_the_command_line_imports_assembly_lazily() -> None:
    """Assembly pulls in every room, and the supervisor is what ``serve`` becomes; ``headgate --help`` needs neither."""
    for module in modules():
        if room(module) == "cli":
            assert not [
                found for found, target in own_imports(module) if within(target, ("assembly", "supervisor")) and not found.lazy
            ], module


def test_nobody_imports_the_windows_or_the_root() -> None:
    """The windows look out: nothing inside knows them. Nothing shipped needs the test kit."""
    outer = ("cli", "dashboard", "testing", "assembly", "supervisor", "supervision")
    for module in modules():
        here = room(module)
        if here in (*outer, "root"):
            continue
        assert not [target for _, target in own_imports(module) if within(target, outer)], module


@pytest.mark.parametrize("module", modules(), ids=str)
def test_foreign_libraries_stay_in_their_rooms(module: Module) -> None:
    """The porch: msgspec and NumPy. The replica side: NumPy. The gateway: no database, no web framework. Frameworks: below."""
    here = room(module)
    used = {top for found in module.imports if not found.typing and (top := foreign(found.target))}
    if module.inner in STANDARD_LIBRARY_ONLY or here == "supervisor":
        assert not used
    elif here == "replica side" or module.inner in ("tensors", "runtimes.base"):
        assert used <= {"numpy"}
    elif here == "porch":
        assert used <= PORCH_LIBRARIES
    elif here in ("gateway side", "protocols"):
        assert used <= GATEWAY_LIBRARIES


@pytest.mark.parametrize("module", modules(), ids=str)
def test_frameworks_are_imported_inside_functions_of_their_shelf_file(module: Module) -> None:
    """Looking at a shelf loads no framework, and no other room knows one."""
    shelf_file = room(module) in SHELVES and not module.inner.endswith(".base")
    wrong = [
        f"line {found.line}: {found.target}"
        for found in module.imports
        if foreign(found.target) in FRAMEWORKS and not found.typing and not (shelf_file and found.lazy)
    ]
    assert not wrong, f"{module}: {'; '.join(wrong)}"


def test_plugins_import_nothing_heavy_at_the_top() -> None:
    """A runtime is loaded where only NumPy and its framework are: at the top it imports the standard library and NumPy."""
    for module in modules():
        if room(module) == "runtimes":
            top = {foreign(found.target) for found in module.imports if not found.lazy and not found.typing}
            assert top <= {None, "numpy"}, module


def test_there_is_no_import_cycle() -> None:
    """Modules can be read, and loaded, one after the other. A package counts as imported by everything below it."""
    known = {module.name for module in modules()}
    graph = {
        module.name: {
            found.target
            for found in module.imports
            if found.target in known and not found.lazy and not found.typing and found.target != "headgate"
        }
        for module in modules()
    }
    pending = {name: set(targets) for name, targets in graph.items()}
    while loadable := [name for name, targets in pending.items() if not targets & pending.keys()]:
        for name in loadable:
            del pending[name]
    # What is left is in a cycle, or above one.
    while tops := [name for name in pending if not any(name in targets for targets in pending.values())]:
        for name in tops:
            del pending[name]
    assert not pending, f"these modules import each other: {', '.join(sorted(pending))}"
