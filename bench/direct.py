"""onnxruntime in a bare loop: the most that any server of the model can reach with the same threads.

Run by bench.cnn_ratio: reads a number of seconds a line, runs for as long, writes runs per second. Between lines it sleeps.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from bench.session import session


def main(path: str, example: str, threads: int) -> None:
    model = session(path, threads)
    feed = {model.get_inputs()[0].name: np.load(example)}
    for _ in range(3):
        model.run(None, feed)
    print("ready", flush=True)
    for line in sys.stdin:
        count, begin = 0, time.perf_counter()
        end = begin + float(line)
        while time.perf_counter() < end:
            model.run(None, feed)
            count += 1
        print(count / (time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
