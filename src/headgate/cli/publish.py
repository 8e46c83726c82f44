"""From a model file to a registered version: package it, bring it into the store, register it."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import Any, NamedTuple

from headgate.cli.catalog import Catalog


class Published(NamedTuple):
    """What became of a target."""

    version: dict[str, Any]
    created: bool
    """Whether it is a new version; else the same source was registered already."""

    @property
    def reference(self) -> str:
        """``fraud@3``."""
        return f"{self.version['model']}@{self.version['number']}"
