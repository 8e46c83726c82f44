"""T7: killed at any point and started again, the judge has the same evidence, bit by bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from promises import traffic
from resumable import LOAD, SETTINGS

from headgate.judge.decide import decide
from headgate.judge.outcomes import Arm, Event
from headgate.judge.state import JudgeState, decode, encode, observe

SCRIPT = Path(__file__).with_name("resumable.py")


def stream(rng: np.random.Generator, count: int) -> Any:
    """Traffic with everything in it: errors, slow answers, keys, changing weights, pinned and repeated requests."""
    parts = [
        traffic(rng, count // 4, weight=weight, start=place * (count // 4)) for place, weight in enumerate((0.01, 0.05, 0.25, 0.5))
    ]
    batch = np.concatenate(parts)
    batch["bits"] = np.where(rng.random(count) < 0.1 + 0.1 * (batch["arm"] == Arm.CANDIDATE), Event.ERROR, 0)
    for event, probability in ((Event.SLOW50, 0.5), (Event.SLOW95, 0.05), (Event.OVER_SLO, 0.01), (Event.PINNED, 0.03)):
        batch["bits"] |= np.where(rng.random(count) < probability, event.value, 0).astype("u4")
    batch["key"] = rng.integers(0, 300, count)
    return batch


def test_t7_a_killed_judge_goes_on(tmp_path: Path, rng: np.random.Generator) -> None:
    """SIGKILL at five points of the stream; at the end the stored bytes are those of one that was never disturbed."""
    records = stream(rng, 8_000)
    (tmp_path / "stream").write_bytes(records.tobytes())
    kills = 0
    while True:
        lines, limit = 0, int(rng.integers(4, 20)) if kills < 5 else None
        command = [sys.executable, str(SCRIPT), str(tmp_path / "stream"), str(tmp_path / "state")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in process.stdout:
                lines += 1
                if lines == limit:
                    process.send_signal(signal.SIGKILL)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
    assert kills == 5
    undisturbed = observe(JudgeState(), records, SETTINGS, load=LOAD)
    stored = (tmp_path / "state").read_bytes()
    assert stored == encode(undisturbed)
    resumed, whole = decide(decode(stored), SETTINGS), decide(undisturbed, SETTINGS)
    assert [item.log_e.hex() for item in resumed.metrics] == [item.log_e.hex() for item in whole.metrics]
    assert any(item.log_e != 0.0 for item in whole.metrics)
