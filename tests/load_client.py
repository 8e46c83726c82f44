"""Steady requests on keep-alive connections: ``load_client.py URL DEPLOYMENT CONNECTIONS PAUSE``; ends with its standard input.

Prints a record of every request. A request is never sent twice. Where the server has said ``connection: close``, the next request
takes a new connection; a *new* connection that is refused is no failure: the server has gone, and that client ends.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time


def exchange(connection: http.client.HTTPConnection, deployment: str, x: int) -> tuple[int, str, int | None]:
    """Send one row; return the status, what is wrong (empty: nothing), and the version that answered."""
    connection.request("POST", f"/predict/{deployment}", json.dumps({"do": "echo", "x": x}))
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        return response.status, body.decode(errors="replace")[:300], None
    answer = json.loads(body)
    return 200, "" if answer["output_0"] == x else f"asked {x}, got {answer}", answer["output_1"]


def client(number: int, host: str, deployment: str, pause: float, over: threading.Event) -> None:
    """Ask until it is over."""
    connection = http.client.HTTPConnection(host, timeout=60)
    x = number * 10_000_000
    while not over.is_set():
        x += 1
        begun = time.monotonic()
        try:
            if connection.sock is None:
                connection.connect()
        except ConnectionRefusedError:
            return
        except OSError as error:
            say(begun, 0, x, f"connecting: {error!r}", None)
            return
        try:
            status, why, version = exchange(connection, deployment, x)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            status, why, version = 0, repr(error), None
        say(begun, status, x, why, version)
        time.sleep(pause)
    connection.close()


def say(begun: float, status: int, x: int, why: str, version: int | None) -> None:
    """Print one record, whole."""
    record = {"begun": begun, "ended": time.monotonic(), "status": status, "x": x, "why": why, "version": version}
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Ask on several connections until standard input ends."""
    url, deployment, connections, pause = sys.argv[1:]
    over = threading.Event()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    arguments = (url.partition("://")[2], deployment, float(pause), over)
    threads = [threading.Thread(target=client, args=(number, *arguments)) for number in range(1, int(connections) + 1)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
