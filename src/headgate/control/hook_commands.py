"""Commands that hooks run: no shell, the event on standard input, bounded in time and output, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

SECONDS = 60.0
"""That a command has to end, and to close its output."""
OUTPUT_BYTES = 8192
"""Of its output, that go to the log."""
_KILLED_SECONDS = 2.0


async def run(command: tuple[str, ...], body: bytes, environment: Mapping[str, str]) -> str:
    """Run a command once, with ``body`` on its standard input. Returns why that did not work; empty if it ended with 0."""
    name = command[0]
    try:
        # Not the loop's own subprocesses: uvloop's inherit every descriptor that is inheritable, the listening socket among them.
        with _input(body) as stdin:
            process = subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
    except (OSError, ValueError) as error:
        return f"{name} could not be started: {error}"
    output = bytearray()
    try:
        with _end_of(process) as ended:
            try:
                async with asyncio.timeout(SECONDS):
                    await asyncio.gather(_drain(process, output), ended.wait())
            except TimeoutError:
                return f"{name} did not end within {SECONDS:g} s and was killed"
            finally:
                # With all it has started. It was not waited for yet, so nobody else has its number.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_KILLED_SECONDS):
                        await ended.wait()
                code = process.poll()
    finally:
        if output:
            print(f"{name} says: {output.decode(errors='replace').rstrip()}", file=sys.stderr)
    return "" if code == 0 else f"{name} ended with exit code {code}"


@contextmanager
def _input(body: bytes) -> Iterator[int]:
    """Give a descriptor from which ``body`` can be read: a file in memory, which nobody has to feed."""
    descriptor = os.memfd_create("event")
    try:
        os.write(descriptor, body)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _end_of(process: subprocess.Popen[bytes]) -> Iterator[asyncio.Event]:
    """Give an event that is set when the process has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def _drain(process: subprocess.Popen[bytes], output: bytearray) -> None:
    """Read all of a command's output, and keep the beginning."""
    reader = asyncio.StreamReader()
    assert process.stdout is not None
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    try:
        while chunk := await reader.read(65536):
            output += chunk[: OUTPUT_BYTES - len(output)]
    finally:
        transport.close()
