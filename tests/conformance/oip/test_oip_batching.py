"""Batches by pull: whoever asks at the same time, everybody gets the answers to the own rows, in order."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import numpy as np
import pytest
from serving import Answer, Server, answer_of, tensor

CLIENTS = 12
BINARY = {"binary_data_output": True}


def words(random: Random, rows: int) -> list[str]:
    """Return words of any length, the empty one and ones of several bytes a letter among them."""
    return ["".join(random.choices("ab\u00e9\u4e16\U0001f600\x00", k=random.choice((0, 1, 3, 40)))) for _ in range(rows)]


def encoded(random: Random, numbers: list[int], texts: list[str]) -> tuple[bytes, dict[str, str]]:
    """Return a request for these rows in one of the forms a client may choose."""
    rows = len(numbers)
    form = random.choice(("json", "binary", "mixed"))
    if form == "json":
        inputs = [tensor("number", "INT64", [rows, 1], numbers), tensor("text", "BYTES", [rows, 1], texts)]
        random.shuffle(inputs)
        return json.dumps({"inputs": inputs}).encode(), {}
    blob = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    inputs = [tensor("text", "BYTES", [rows, 1], binary_data_size=len(blob))]
    if form == "binary":
        inputs.insert(0, tensor("number", "INT64", [rows, 1], binary_data_size=8 * rows))
        blob = np.array(numbers, "<i8").tobytes() + blob
    else:
        inputs.insert(random.randrange(2), tensor("number", "INT64", [rows, 1], numbers))
    body: dict[str, Any] = {"inputs": inputs}
    if random.random() < 0.5:
        body["parameters"] = BINARY
    text = json.dumps(body).encode()
    return text + blob, {"Inference-Header-Content-Length": str(len(text))}


def decoded(answer: Answer) -> tuple[list[int], list[str], list[int]]:
    """Return numbers, texts and rows of an answer in either form."""
    described = answer.json["outputs"]
    assert [output["name"] for output in described] == ["number", "text", "rows"]
    if "data" in described[0]:
        return tuple(output["data"] for output in described)  # type: ignore[return-value]
    blobs, at, texts = answer.blobs, described[0]["parameters"]["binary_data_size"], []
    numbers = np.frombuffer(blobs[:at], "<i8").tolist()
    for _ in range(described[1]["shape"][0]):
        (length,) = struct.unpack_from("<I", blobs, at)
        texts.append(blobs[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return numbers, texts, np.frombuffer(blobs[at:], "<i8").tolist()


def one_client(server: Server, seed: int, requests: int) -> set[int]:
    """Send requests of 1 to 40 rows over one connection, check every answer, and return the sizes of the batches met."""
    random = Random(seed)
    client = server.client()
    met: set[int] = set()
    for _ in range(requests):
        rows = random.choice((1, 1, 1, 2, 3, 7, 8, 9, 17, 40))
        numbers, texts = [random.randrange(-(2**40), 2**40) for _ in range(rows)], words(random, rows)
        body, headers = encoded(random, numbers, texts)
        client.request("POST", "/v2/models/tags/infer", body, headers)
        answer = answer_of(client.getresponse())
        assert answer.status == 200, answer.body
        got_numbers, got_texts, sizes = decoded(answer)
        assert got_numbers == [2 * number for number in numbers], f"seed {seed}"
        assert got_texts == [f"<{text}>" for text in texts], f"seed {seed}"
        assert len(sizes) == rows and max(sizes) <= 8
        met |= set(sizes)
    client.close()
    return met


def together(server: Server, seed: int, requests: int) -> set[int]:
    """Run `CLIENTS` clients at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return set().union(*pool.map(lambda number: one_client(server, seed + number, requests), range(CLIENTS)))


def test_answers_are_never_mixed_up(server: Server) -> None:
    """Rows of many clients share batches of at most 8 rows on two replicas, large requests are split and joined; each answer is right."""
    met = together(server, seed=20261123, requests=40)
    assert len(met) > 3, f"batches of several sizes were expected, to have tested anything; met {met}"


@pytest.mark.long
def test_answers_are_never_mixed_up_for_longer(server: Server) -> None:
    """The same with a seed of its own each time, which the failure names."""
    together(server, seed=Random().randrange(2**32), requests=600)


@pytest.mark.parametrize("rows", [7, 8, 9, 16, 17, 1000])
def test_requests_above_the_maximum_are_split_and_joined(server: Server, rows: int) -> None:
    """Any number of rows comes back whole and in order, whatever the length of its strings."""
    texts = [f"{'x' * (number % 13)}\u00e9{number}" for number in range(rows)]
    inputs = [tensor("number", "INT64", [rows, 1], list(range(rows))), tensor("text", "BYTES", [rows, 1], texts)]
    answer = server.infer("tags", {"inputs": inputs}, {"X-Headgate-Timing": "1"})
    assert answer.data("number") == [2 * number for number in range(rows)]
    assert answer.data("text") == [f"<{text}>" for text in texts]
    assert max(answer.data("rows")) <= 8
    assert [output["shape"] for output in answer.json["outputs"]] == [[rows, 1]] * 3


def test_rows_of_different_lengths_share_no_batch(server: Server) -> None:
    """Requests whose shapes do not fit together run apart, and each is answered."""

    def ask(length: int) -> Any:
        data = [(length + at) % 256 for at in range(length)]
        answer = server.infer("ragged", {"inputs": [tensor("x", "UINT8", [1, length], data)]})
        assert answer.status == 200, answer.body
        return answer.data("output") == data[::-1]

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(ask, [number % 5 for number in range(200)]))


def test_requests_with_different_parameters_share_no_batch(server: Server) -> None:
    """A model that looks at parameters sees those of its own request."""

    def ask(top: int) -> Any:
        body = {"inputs": [tensor("x", "FP32", [1, 1], [0])], "parameters": {"top": top}}
        return server.infer("asked", body).data("output") == [f"top={top}"]

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(ask, [number % 3 for number in range(150)]))


def test_a_model_without_a_batch_axis_runs_alone(server: Server) -> None:
    """Requests that come at the same time are computed one by one."""

    def ask(number: int) -> Any:
        matrix = np.arange(2 * (number % 4 + 1), dtype=float).reshape(2, -1) + number
        inputs = [tensor("x", "FP64", [], [float(number)]), tensor("matrix", "FP32", matrix.shape, matrix.ravel().tolist())]
        answer = server.infer("scalar", {"inputs": inputs})
        return answer.data("double") == [2.0 * number] and answer.data("turned") == matrix.T.ravel().tolist()

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(ask, range(150)))
