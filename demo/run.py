"""The tour: train a small model, serve it twice, send it traffic, break things and watch. ``make demo`` runs it.

Everything happens in a temporary folder and on free ports, and everything is stopped at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = 7
TRAFFIC_SECONDS = 5.0
CLIENTS = 4
STARTS_WITHIN = 60.0
COLUMNS = 30


class Demo:
    """One server on free ports, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.control = free_ports(2)
        self.log = (folder / "server.log").open("w+")
        self.server: subprocess.Popen[bytes] | None = None
        self._step = 0

    def step(self, text: str) -> None:
        """Say what comes next."""
        self._step += 1
        print(f"\n[{self._step}/{STEPS}] {text}", flush=True)

    def headgate(self, *arguments: str) -> list[str]:
        """Return the command line ``headgate ...`` of this Python."""
        return [sys.executable, "-m", "headgate.cli.main", *arguments]

    def serve(self, *targets: Path) -> float:
        """Start the server and return the seconds until every target is ready."""
        command = [
            "serve",
            *(target.name for target in targets),
            "--home",
            "home",
            "--port",
            str(self.port),
            "--control-port",
            str(self.control),
        ]
        say(f"$ headgate {' '.join(command)}")
        begun = time.monotonic()
        # A session of its own: Ctrl-C reaches this script, which then stops the server in order.
        self.server = subprocess.Popen(
            self.headgate(*command), cwd=self.folder, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )
        waiting = [target.stem for target in targets]
        while waiting:
            waiting = [name for name in waiting if self.status_of(f"/v2/models/{name}/ready") != 200]
            if self.server.poll() is not None or time.monotonic() - begun > STARTS_WITHIN:
                raise SystemExit(f"the server did not get ready:\n{(self.folder / 'server.log').read_text()}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def status_of(self, path: str) -> int:
        """Return the HTTP status of a GET, 0 while nobody listens."""
        try:
            return self.call("GET", path)[0]
        except OSError:
            return 0

    def call(self, method: str, path: str, body: object = None, *, control: bool = False) -> tuple[int, Any]:
        """Send one request; returns the status and the decoded JSON, or the text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.control if control else self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"} if data else {})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, json.loads(text) if text[:1] in ("{", "[") else text

    def curl(self, path: str, body: object) -> tuple[int, Any]:
        """Send one request and show it as the command line that would."""
        text = json.dumps(body)
        say(f"$ curl -X POST localhost:{self.port}{path} -d '{shortened(text)}'")
        status, answer = self.call("POST", path, body)
        say(f"  {status} {shortened(json.dumps(answer), 180)}")
        return status, answer

    def replica(self, name: str) -> tuple[int, int]:
        """Return the pid of the deployment's replica and how often it was restarted; pid 0 while there is none."""
        _, status = self.call("GET", f"/deployments/{name}", control=True)
        for revision in status.get("revisions", []):
            for replica in revision["replicas"]:
                if replica["state"] in ("running", "ready") and replica["pid"]:
                    return int(replica["pid"]), int(replica["restarts"])
        return 0, 0

    def stop(self) -> float:
        """Press Ctrl-C and return how long it took to end; what does not end is killed."""
        begun = time.monotonic()
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
            try:
                self.server.wait(timeout=45)
            except subprocess.TimeoutExpired:
                self.server.kill()
                say("the server had to be killed")
        return time.monotonic() - begun


def train(folder: Path) -> tuple[Path, Path, list[dict[str, float]], Any]:
    """Train on the breast cancer data of scikit-learn; returns the model as .skops and .onnx, with test rows and their labels."""
    import skops.io
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_breast_cancer(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows, test, labels, truth = train_test_split(frame, data.target, random_state=7, stratify=data.target)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels)
    say(f"scaler and logistic regression, {len(rows)} rows of {frame.shape[1]} columns: accuracy {model.score(test, truth):.3f}")

    skops_file, onnx_file = folder / "tumour.skops", folder / "tumour_fast.onnx"
    skops.io.dump(model, skops_file)
    nameless = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows.to_numpy(), labels)
    inputs = [("input", FloatTensorType([None, COLUMNS]))]
    onnx_file.write_bytes(to_onnx(nameless, initial_types=inputs, options={"zipmap": False}).SerializeToString())
    for path in (skops_file, onnx_file):
        say(f"{path.name}: {path.stat().st_size / 1024:.1f} KiB")
    return skops_file, onnx_file, test.to_dict("records"), truth.to_numpy()


def compare(demo: Demo, rows: list[dict[str, float]], truth: Any) -> None:
    """Ask both endpoints for every test row and compare the answers."""
    from headgate import Client

    with Client(f"http://127.0.0.1:{demo.port}") as client:
        answers = client.predict_rows("tumour", rows)
        matrix = [list(row.values()) for row in rows]
        outputs = client.predict("tumour_fast", {"input": matrix})
    labels = [row["label"] for row in answers]
    same = sum(one == other for one, other in zip(labels, outputs["label"].tolist(), strict=True))
    right = sum(one == other for one, other in zip(labels, truth.tolist(), strict=True))
    say(f"headgate.Client: {len(rows)} rows to tumour, {right} right")
    say(f"headgate.Client: the same as one array to tumour_fast, the same answer for {same}")


def hammer(demo: Demo, name: str, row: object, stop: threading.Event, statuses: dict[int, int]) -> None:
    """Send one row after the other over one connection until told to stop."""
    body = json.dumps(row).encode()
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=60)
    while not stop.is_set():
        try:
            connection.request("POST", f"/predict/{name}", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        statuses[status] = statuses.get(status, 0) + 1
    connection.close()


@contextmanager
def traffic(demo: Demo, name: str, row: object) -> Iterator[list[dict[int, int]]]:
    """Keep several clients sending; yields what each of them has got, status by status."""
    stop = threading.Event()
    counts: list[dict[int, int]] = [{} for _ in range(CLIENTS)]
    threads = [threading.Thread(target=hammer, args=(demo, name, row, stop, counted), daemon=True) for counted in counts]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def total(counts: list[dict[int, int]]) -> dict[int, int]:
    """Add up what the clients got."""
    return {
        status: sum(counted.get(status, 0) for counted in counts)
        for status in sorted({key for counted in counts for key in counted})
    }


def quantile(metrics: str, family: str, name: str, share: float) -> float:
    """Return a quantile in seconds from the buckets of a Prometheus histogram, as its ``histogram_quantile`` does."""
    pattern = re.compile(rf'^{family}_bucket{{(?=[^}}]*deployment="{name}")[^}}]*le="([^"]+)"}} (\d+)', re.MULTILINE)
    buckets: dict[float, int] = {}
    for bound, count in pattern.findall(metrics):
        buckets[float(bound)] = buckets.get(float(bound), 0) + int(count)
    wanted, below, before = share * max(buckets.values(), default=0), 0.0, 0
    for bound, count in sorted(buckets.items()):
        if count >= wanted and count > before:
            return below if bound == float("inf") else below + (bound - below) * (wanted - before) / (count - before)
        below, before = bound, count
    return below


def show_traffic(demo: Demo, row: object) -> None:
    """Send traffic for a few seconds and read off what the server measured."""
    begun = time.monotonic()
    with traffic(demo, "tumour_fast", row) as counts:
        while (elapsed := time.monotonic() - begun) < TRAFFIC_SECONDS:
            if sys.stdout.isatty():
                print(f"\r      {elapsed:3.0f} s  {sum(total(counts).values()):7,} requests", end="\r", flush=True)
            time.sleep(0.25)
    seconds = time.monotonic() - begun
    answered = total(counts)
    say(f"{CLIENTS} clients in Python, one row a request: {sum(answered.values()) / seconds:,.0f} requests/s; statuses {answered}")
    _, metrics = demo.call("GET", "/metrics")
    for family, meaning in (
        ("headgate_request_seconds", "request"),
        ("headgate_queue_seconds", "waiting"),
        ("headgate_compute_seconds", "model"),
    ):
        figures = [
            f"p{share * 100:g} {quantile(str(metrics), family, 'tumour_fast', share) * 1000:.2f} ms" for share in (0.5, 0.9, 0.99)
        ]
        say(f"/metrics: {meaning:<8} {', '.join(figures)}")


def show_bad_requests(demo: Demo, row: dict[str, float]) -> None:
    """Send what cannot be answered."""
    demo.curl("/predict/tumour", {**row, "mean_radius": "large"})
    demo.curl("/predict/tumour", {key: value for key, value in row.items() if key != "mean_area"})
    demo.curl("/predict/tumor", row)


def show_crash(demo: Demo, row: object) -> None:
    """Kill the replica while clients are sending, and count what they noticed."""
    pid, _ = demo.replica("tumour_fast")
    with traffic(demo, "tumour_fast", row) as counts:
        time.sleep(0.5)
        say(f"$ kill -9 {pid}    (the replica, with {CLIENTS} clients sending)")
        os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        while demo.replica("tumour_fast")[0] in (0, pid) or demo.status_of("/v2/models/tumour_fast/ready") != 200:
            if time.monotonic() - begun > STARTS_WITHIN:
                raise SystemExit("the replica did not come back")
            time.sleep(0.02)
        back = time.monotonic() - begun
        time.sleep(0.5)
    say(f"a new replica (pid {demo.replica('tumour_fast')[0]}) was ready after {back:.1f} s")
    say(f"what the clients got meanwhile, by status: {total(counts)}")


def show_status(demo: Demo) -> None:
    """Show what the command line says."""
    say("$ headgate status")
    done = subprocess.run(demo.headgate("status", "--home", "home"), cwd=demo.folder, capture_output=True, text=True, check=False)
    print("\n".join(f"      {line}" for line in (done.stdout + done.stderr).splitlines()), flush=True)


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def shortened(text: str, length: int = 90) -> str:
    """Return ``text``, cut where it would fill the screen."""
    return text if len(text) <= length else f"{text[:length]}..."


def say(text: str) -> None:
    """Print one line below the present step."""
    print(f"      {text}", flush=True)


def tour(demo: Demo) -> None:
    """Walk through everything once."""
    demo.step("Training a small real model")
    skops_file, onnx_file, rows, truth = train(demo.folder)
    demo.step("Serving it: two files, nothing else written")
    seconds = demo.serve(skops_file, onnx_file)
    say(f"both are ready {seconds:.1f} s after Enter: http://127.0.0.1:{demo.port}/v2/models/tumour")
    demo.step("Asking")
    demo.curl("/predict/tumour", rows[0])
    compare(demo, rows, truth)
    demo.step("Traffic")
    row = {"input": list(rows[0].values())}
    show_traffic(demo, row)
    demo.step("Requests that cannot be answered")
    show_bad_requests(demo, rows[0])
    demo.step("Killing a replica")
    show_crash(demo, row)
    show_status(demo)
    demo.step("Ctrl-C")
    say(f"drained and ended in {demo.stop():.1f} s")


def main() -> int:
    """Run the tour in a temporary folder, and leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-demo-"))
    demo = Demo(folder)
    begun = time.monotonic()
    try:
        tour(demo)
    finally:
        demo.stop()
        demo.log.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nDone in {time.monotonic() - begun:.0f} s. Now yours: .venv/bin/headgate serve MODEL", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
