"""Truss's own server for a Truss folder, without an image: ``python -P truss_server.py FOLDER BUILD PORT``, in Truss's environment.

What Truss would copy into an image is put together in ``BUILD`` and run there, on the loopback address.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import truss
from truss.base.truss_config import TrussConfig


def put_together(source: Path, build: Path) -> None:
    """Make the folder that a running Truss has."""
    templates = Path(truss.__file__).parent / "templates"
    shutil.copytree(templates / "server", build)
    shutil.copytree(templates / "shared", build / "_truss_shared")
    config = TrussConfig.from_yaml(source / "config.yaml")
    config.write_to_yaml_file(build / "config.yaml")
    os.environ.update(config.environment_variables)  # which an image would have
    for name in ("model", "data", "packages"):
        if (source / name).is_dir():
            shutil.copytree(source / name, build / name)


if __name__ == "__main__":
    source, build, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    put_together(source, build)
    os.chdir(build)
    sys.path[:0] = [str(build), str(build / "packages")]
    import uvicorn
    from truss_server import TrussServer

    uvicorn.run(TrussServer(port, "config.yaml").create_application(), host="127.0.0.1", port=port, log_level="warning")
