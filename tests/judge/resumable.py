"""A process that judges a stream and stores its state after each batch; killed and started again, it goes on. Run by T7.

``resumable.py STREAM STATE``: STREAM holds records, STATE what was stored last (absent at the beginning). Prints a line per batch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from headgate.judge.outcomes import RECORD
from headgate.judge.settings import JudgeSettings
from headgate.judge.slo import parse_slo
from headgate.judge.state import JudgeState, Load, decode, encode, observe

SETTINGS = JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"), max_keys=50)
LOAD = Load(candidate=10.0, baseline=11.0)
BATCH = 97


def main(stream: Path, stored: Path) -> None:
    """Judge what is not judged yet."""
    records = np.frombuffer(stream.read_bytes(), dtype=RECORD)
    state = decode(stored.read_bytes()) if stored.exists() else JudgeState()
    start = state.cursors.get("", -1) + 1
    for place in range(start, len(records), BATCH):
        state = observe(state, records[place : place + BATCH], SETTINGS, load=LOAD)
        partial = stored.with_suffix(".partial")
        partial.write_bytes(encode(state))
        os.replace(partial, stored)
        print(place, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
