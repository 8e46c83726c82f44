"""MiniLM: the exported graph on token ids, and a class that takes text, against sentence-transformers on PyTorch."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from model_assets import direct
from model_server import Server

TOLERANCE = 1e-5
"""PyTorch and ONNX Runtime add in another order; vectors are of length 1."""
REQUESTS = 160


def tokens() -> list[dict[str, list[int]]]:
    found: list[dict[str, list[int]]] = json.loads((direct("minilm", "models-torch") / "tokens.json").read_text())
    return found


def texts() -> list[str]:
    found: list[str] = json.loads((direct("minilm", "models-torch") / "texts.json").read_text())
    return found


def vectors() -> np.ndarray:
    return np.load(direct("minilm", "models-torch") / "vectors.npy")


def test_token_ids_give_the_vectors_of_pytorch(server: Server) -> None:
    """Each text alone, as a request of one row of as many tokens as it has."""
    for ids, expected in zip(tokens(), vectors(), strict=True):
        answer = server.client.predict("minilm", {name: np.array([row], dtype=np.int64) for name, row in ids.items()})
        np.testing.assert_allclose(answer["vector"], expected[None], atol=TOLERANCE)


def test_requests_of_different_lengths_share_batches_with_their_like_only(server: Server) -> None:
    """Many at once, of every length, one row and several: all right, though fewer batches ran than requests came."""
    known, expected = tokens(), vectors()
    assert len({len(ids["input_ids"]) for ids in known}) >= 8
    chosen = random.Random(0)
    plan = [(chosen.randrange(len(known)), chosen.choice((1, 1, 1, 3))) for _ in range(REQUESTS)]

    def ask(which: tuple[int, int]) -> np.ndarray:
        index, rows = which
        answer = server.client.predict(
            "minilm", {name: np.array([row] * rows, dtype=np.int64) for name, row in known[index].items()}
        )
        return np.asarray(answer["vector"])

    batches, rows = server.batches("minilm")
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, plan))
    for (index, count), answer in zip(plan, answers, strict=True):
        assert answer.shape == (count, 384)
        np.testing.assert_allclose(answer, np.stack([expected[index]] * count), atol=TOLERANCE)
    ran, computed = (after - before for after, before in zip(server.batches("minilm"), (batches, rows), strict=True))
    assert computed == sum(count for _, count in plan)
    assert ran < REQUESTS


@pytest.fixture(scope="module")
def embedder(server: Server) -> Server:
    """The server with the class beside the graph, in an environment of its own."""
    folder = direct("minilm", "models-torch")
    server.deploy_class("embed", "Embedder", "--include", folder / "minilm.onnx", "--include", folder / "tokenizer.json")
    return server


def test_texts_go_in_and_vectors_come_out(embedder: Server) -> None:
    """Texts of all lengths in one request: padded by the class, each vector is the one of the text alone, and meaning is near meaning."""
    answer = embedder.client.predict("embed", {"text": np.array(texts(), dtype=object)})["output"]
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, vectors(), atol=TOLERANCE)
    near = answer @ answer.T
    assert near[0, 1] > 0.5 > near[0, 2]
    assert near[6, 7] > 0.4 > near[6, 4]


def test_texts_of_many_clients_are_embedded_together(embedder: Server) -> None:
    """One text a request, many at once: every client gets its own vector, and the class saw them in batches."""
    known, expected = texts(), vectors()
    batches, rows = embedder.batches("embed")
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda at: embedder.client.predict("embed", [{"text": known[at % len(known)]}]), range(REQUESTS)))
    for at, (row,) in enumerate(answers):
        np.testing.assert_allclose(row["output"], expected[at % len(known)], atol=TOLERANCE)
    ran, computed = (after - before for after, before in zip(embedder.batches("embed"), (batches, rows), strict=True))
    assert computed == REQUESTS
    assert ran < REQUESTS / 2
