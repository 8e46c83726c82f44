"""``label_filename``: the names of the classes of an output, a line each."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from headgate.errors import PackageError, UnsupportedModel

MAX_BYTES = 1 << 20
"""Largest file of labels: they go wherever the signature goes, to every gateway."""


def label_files(config: Any, folder: Path, where: str) -> dict[str, str]:
    """Return the paths of the files of labels in the model's ``folder``, by the output that they are of. Raises `PackageError`."""
    found: dict[str, str] = {}
    for at, output in enumerate(config.output):
        name, path = output.label_filename, f"{where}output[{at}].label_filename"
        if not name:
            continue
        if {"..", "."} & set(PurePosixPath(name).parts) or name.startswith("/"):
            raise PackageError(f"{path}: expected a file in the model's folder, got {name!r}")
        # Not Path.is_file(), which raises for names that no file can have.
        if not os.path.isfile(folder / name):
            raise PackageError(f"{path}: there is no file {name!r} in {folder.name}; copy it again, or leave it out")
        if (folder / name).stat().st_size > MAX_BYTES:
            raise UnsupportedModel(f"{path}: {name!r} is larger than {MAX_BYTES >> 20} MiB, and no labels are; is it another file?")
        found[output.name] = str(PurePosixPath(name))
    return found


def labels(path: Path, where: str) -> tuple[str, ...]:
    """Return the labels in a file, by the number of the class; empty for one without. Raises `PackageError` if it is not UTF-8 text."""
    try:
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise PackageError(f"{where}{path.name}: not UTF-8 text ({error.reason} at byte {error.start}); correct it") from None
    return tuple(line.removesuffix("\r") for line in lines)
