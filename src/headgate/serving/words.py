"""What clients may see of the words of a model: it may raise anything, and name every place on its machine."""

from __future__ import annotations

import re

_FOLDERS = re.compile(r"""(?<=['"])/[^'"\n]*/(?=[^'"/\n]*['"])|(?<![\w/.~])/(?:[^\s'"/:,;()]+/)+""")
"""Those of an absolute path: in quotes, as Python shows it, where it may hold blanks, or without."""
_SHOWN = 2000
"""Characters."""


def for_clients(said: str) -> str:
    """Return ``said`` without folders of this machine, without a traceback, and no novel. The log has the whole."""
    shown = said.partition("Traceback (most recent call last)")[0][:_SHOWN]
    return _FOLDERS.sub("", shown) + ("" if shown == said else "... (the rest is in the log)")
