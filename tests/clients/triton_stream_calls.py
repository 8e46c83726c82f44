"""What the real ``tritonclient.grpc`` does with models that answer in parts: ``triton_stream_calls.py HOST:PORT FOLDER``.

Every function ``check_*`` is one promise, told in its docstring; it raises if the promise is broken. Prints one JSON object: the outcome of
each, by name. ``FOLDER`` is where the model ``words`` looks for what lets it go on, and writes what it has done.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
SECONDS = 60


def given(text):
    """Return the input of ``words``."""
    tensor = triton.InferInput("text", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode()], dtype=object))
    return [tensor]


@contextmanager
def streaming():
    """Give a client with an open stream, and a function that waits for the next result or error on it."""
    answers = queue.Queue()
    client = triton.InferenceServerClient(URL)
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        yield client, lambda: answers.get(timeout=SECONDS)
    finally:
        client.stop_stream()
        client.close()
    assert answers.empty(), answers.get()


def word(result):
    """Return the output of a response, and whether it says that it is the last one."""
    response = result.get_response()
    output = result.as_numpy("output")
    return (None if output is None else output[0].decode()), response.parameters["triton_final_response"].bool_param


def check_parts_and_final_response():
    """Every part is a response with the id of its request, and the empty final one comes where it is asked for."""
    with streaming() as (client, answer):
        for words in ([], ["one"], ["one", "two", "three"]):
            client.async_stream_infer("words", given(" ".join(words)), request_id="7", enable_empty_final_response=True)
            got = [answer() for _ in range(len(words) + 1)]
            assert [error for _, error in got] == [None] * len(got)
            assert [word(result) for result, _ in got] == [(text, False) for text in words] + [(None, True)]
            assert {result.get_response().id for result, _ in got} == {"7"}


def check_parts_without_final_response():
    """Without that wish nothing follows the last part, and the next request is answered."""
    with streaming() as (client, answer):
        for _ in range(2):
            client.async_stream_infer("words", given("one two"))
            assert [word(answer()[0])[0] for _ in range(2)] == ["one", "two"]


def check_parts_come_as_they_are_made():
    """A response is there while the model is still at the next one."""
    number = random.randrange(2**40)
    with streaming() as (client, answer):
        client.async_stream_infer("words", given(f"first !wait{number} second"))
        assert word(answer()[0])[0] == "first"
        (FOLDER / f"release{number}").touch()
        assert word(answer()[0])[0] == "second"


def check_errors_in_the_middle():
    """The callback gets an error with the model's words, and the stream lives on."""
    with streaming() as (client, answer):
        client.async_stream_infer("words", given("one !raise"))
        assert word(answer()[0])[0] == "one"
        result, error = answer()
        assert result is None
        assert "told to" in str(error)
        client.async_stream_infer("words", given("two"))
        assert word(answer()[0])[0] == "two"


def check_cancelled_streams():
    """A client that cancels stops the model long before its end."""
    (FOLDER / "given").unlink(missing_ok=True)
    answers = queue.Queue()
    client = triton.InferenceServerClient(URL)
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("words", given("!many1000003"))
    for _ in range(10):
        assert answers.get(timeout=SECONDS)[1] is None
    client.stop_stream(cancel_requests=True)
    client.close()
    end = time.monotonic() + SECONDS
    while (FOLDER / "ended").read_text().splitlines()[-1:] != ["!many1000003"]:
        assert time.monotonic() < end, "the generator was not closed"
        time.sleep(0.01)
    assert len((FOLDER / "given").read_text().splitlines()) < 500_000


def check_unary_is_refused():
    """One call has room for one answer: UNIMPLEMENTED, with Triton's words."""
    with triton.InferenceServerClient(URL) as client:
        error = None
        try:
            client.infer("words", given("a"))
        except InferenceServerException as raised:
            error = raised
        assert error is not None, "it was answered"
        assert error.status() == "StatusCode.UNIMPLEMENTED", error.status()
        assert "doesn't support models with decoupled transaction policy" in error.message()


def check_decoupled_is_in_the_configuration():
    """Clients that ask first are told: model_transaction_policy.decoupled."""
    with triton.InferenceServerClient(URL) as client:
        for name, decoupled in (("words", True), ("sum", False)):
            config = client.get_model_config(name).config
            assert config.model_transaction_policy.decoupled is decoupled, name


def check_aio():
    """The asynchronous client iterates over the parts of two requests."""

    async def talk():
        async def requests():
            for text in ("one two", "three"):
                yield {"model_name": "words", "inputs": given(text), "request_id": text}

        async with triton_aio.InferenceServerClient(URL) as client:
            found = []
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                found.append((result.get_response().id, *word(result)))
            return found

    found = asyncio.run(asyncio.wait_for(talk(), SECONDS))
    assert found == [("one two", "one", False), ("one two", "two", False), ("three", "three", False)], found


def outcome(check):
    """Return ``ok``, or what went wrong."""
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return "ok"


if __name__ == "__main__":
    checks = {name: value for name, value in list(globals().items()) if name.startswith("check_")}
    print(json.dumps({name: outcome(check) for name, check in checks.items()}))
