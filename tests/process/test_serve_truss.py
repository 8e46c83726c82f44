"""Truss folders, served as they are: what Truss's own server answers, Headgate answers."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_world import HERE, free_port, python_of, run
from serving_home import ServingHome, eventually

pytestmark = pytest.mark.slow

CONFIG = """
model_name: many-ways
python_version: py311
requirements: [numpy<2]
model_metadata: {greeting: Hello}
secrets: {token: null, unset: null}
environment_variables: {MARK: "!"}
runtime: {predict_concurrency: 4}
"""
MODEL = """
import asyncio
import os

import numpy as np
from fastapi import HTTPException
from model.words import shout
from packaged import NAME


class Model:
    def __init__(self, config, data_dir, secrets, **kwargs):
        self._config, self._data_dir, self._secrets = config, data_dir, secrets

    def load(self):
        self._end = (self._data_dir / "end.txt").read_text().strip()

    def preprocess(self, model_input):
        return model_input["do"], model_input.get("value")

    async def predict(self, step):
        do, value = step
        if do == "slow":
            await asyncio.sleep(0.1)
        if do == "raise":
            raise KeyError(do)
        if do == "http":
            raise HTTPException(status_code=400, detail="not like that")
        if do == "numpy":
            return {"a": np.arange(3, dtype=np.float32), "n": np.int64(3), "f": np.float64(0.5)}
        if do == "bytes":
            return b"abc"
        if do == "kind":
            return type(value).__name__
        if do == "config":
            words = [self._config["model_metadata"]["greeting"], shout(NAME), self._end, self._secrets["token"], os.environ["MARK"]]
            return {"text": " ".join(words), "names": sorted(set(self._config) & {"model_name", "requirements", "weights"})}
        return value

    def postprocess(self, result):
        return result
"""
TYPED = """
from pydantic import BaseModel


class Point(BaseModel):
    x: float
    tags: list[str] = []


class Sum(BaseModel):
    total: float


class Model:
    def predict(self, point: Point) -> Sum:
        return Sum(total=point.x + len(point.tags))
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home that has a secret in its environment."""
    made = ServingHome(tmp_path / "h", TRUSS_SECRET_token="abc")
    yield made
    made.close()


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write a Truss."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@contextmanager
def own_server(truss: Path, folder: Path, **variables: str) -> Iterator[str]:
    """Truss's own server for a Truss, ready; gives its URL. It is built in ``folder``."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | variables
    command = [str(python_of("truss")), "-P", str(HERE / "truss_server.py"), str(truss), str(folder / "build"), str(port)]
    with open(folder / "truss.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def ready() -> bool:
        assert process.poll() is None, (folder / "truss.log").read_text()[-4000:]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/model", timeout=5) as answer:
            return bool(answer.status == 200)

    try:
        eventually(ready, "Truss's own server is ready", 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_truss_answers_as_its_own_server_does(home: ServingHome, tmp_path: Path) -> None:
    """The same requests, in JSON and in Truss's binary form, get the same values and statuses from both: arrays come back as arrays,
    dates as dates, what the model raises as a 500 of the model's, and bad JSON as a 400."""
    files = {"config.yaml": CONFIG, "model/model.py": MODEL, "data/end.txt": "end"}
    files |= {"model/words.py": "def shout(text):\n    return text.upper()\n", "packages/packaged.py": 'NAME = "bo"\n'}
    truss = write(tmp_path / "folder", files)
    with own_server(truss, tmp_path, TRUSS_SECRET_token="abc") as url:
        serving = home.serve(str(truss), "--threads", "1")
        serving.until(lambda: "Ctrl-C" in serving.said or "headgate: " in serving.said, "it is up", 200)
        assert "many-ways is ready" in serving.said, serving.said
        assert "fastapi added, which the code imports" in serving.said
        urls = [f"{url}/v1/models/model:predict", f"{serving.url}/v1/models/many-ways:predict"]
        theirs, ours = json.loads(run("truss", HERE / "truss_requests.py", *urls).splitlines()[-1])
    assert theirs[2][1]["text"] == "Hello BO end abc !"
    assert [status for status, _ in ours] == [status for status, _ in theirs]
    ok = [at for at, (status, _) in enumerate(theirs) if status == 200]
    assert len(ok) > 8
    assert [ours[at] for at in ok] == [theirs[at] for at in ok]


STREAMING = """
import asyncio


class Model:
    def preprocess(self, model_input):
        return model_input["words"]

    async def predict(self, words):
        for word in words:
            await asyncio.sleep(0)
            if word == "raise":
                raise KeyError(word)
            yield bytes.fromhex(word[2:]) if word.startswith("0x") else word
"""
STREAMED = """
import json, sys
import requests

for url in sys.argv[1:]:
    for words in (["a", "b"], [], ["\u00e4", "0xc3", "0xa4"], ["raise"], ["a", "raise"]):
        for headers in ({}, {"accept": "application/json"}, {"accept": "application/json", "user-agent": "OpenAI/Python 1"}):
            try:
                answer = requests.post(url, json={"words": words}, headers=headers, timeout=60)
                kind = answer.headers["content-type"]
                ok = [kind, answer.json() if "json" in kind else answer.content.hex()] if answer.ok else []
                print(json.dumps([answer.status_code, *ok]))
            except requests.exceptions.ChunkedEncodingError:
                print(json.dumps("broken off"))
"""


def test_a_truss_that_streams(home: ServingHome, tmp_path: Path) -> None:
    """A predict that yields is answered in chunks of text and bytes, or as one JSON string, as Truss's own server does; a failure in the
    middle breaks the answer off."""
    files = {
        "config.yaml": "model_name: words\n",
        "model/model.py": STREAMING,
        "examples.yaml": "- name: a\n  input: {words: [x]}\n",
    }
    truss = write(tmp_path / "folder", files)
    script = tmp_path / "streamed.py"
    script.write_text(STREAMED)
    with own_server(truss, tmp_path) as theirs:
        serving = home.serve(str(truss), "--threads", "1")
        serving.until(lambda: "Ctrl-C" in serving.said or "headgate: " in serving.said, "it is up", 200)
        assert "words is ready" in serving.said, serving.said
        urls = [f"{theirs}/v1/models/model:predict", f"{serving.url}/v1/models/words:predict"]
        lines = [json.loads(line) for line in run("truss", script, *urls).splitlines()]
    own, ours = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert own[0] == [200, "application/octet-stream", b"ab".hex()]
    assert own[1] == [200, "application/json", "ab"]
    assert ours[:9] == own[:9]
    assert ours[9:] == [[500], [500], [500], "broken off", [500], "broken off"]
    assert serving.get("/v2/models/words").json["streams"] is True
    assert serving.ask("words", {"model_input": {"words": ["a", "b"]}}).json == [{"model_output": "a"}, {"model_output": "b"}]


def test_a_typed_truss(home: ServingHome, tmp_path: Path) -> None:
    """An argument that is a model of pydantic's is made of the request; what does not fit is a 400 that names the field; a result of
    pydantic's is written by itself. Rows, and the example of the folder, work as for every model."""
    files = {
        "config.yaml": "model_name: typed\nrequirements: [pydantic]\n",
        "model/model.py": TYPED,
        "examples.yaml": "- name: a\n  input: {x: 1.5, tags: [a]}\n",
    }
    serving = home.serve(str(write(tmp_path / "folder", files)), "--threads", "1")
    serving.until(lambda: "Ctrl-C" in serving.said or "headgate: " in serving.said, "it is up", 200)
    assert """-d '{"model_input": {"x": 1.5, "tags": ["a"]}}'""" in serving.said
    path = "/v1/models/typed:predict"
    assert serving.request("POST", path, {"x": 2}).json == {"total": 2.0}
    refused = serving.request("POST", path, {"x": "much", "tags": ["a"]})
    assert (refused.status, "x: Input should be a valid number" in refused.error) == (400, True)
    assert serving.ask("typed", {"model_input": {"x": 1, "tags": ["b", "c"]}}).json == {"model_output": {"total": 3.0}}
    assert serving.get("/v1/models/typed").json == {}
    assert serving.get("/v1/models/typed/schema").status == 404


def test_what_a_truss_asks_for_and_cannot_have_is_said(home: ServingHome, tmp_path: Path) -> None:
    """A refusal names the key and what to do, and nothing is registered."""
    folder = write(tmp_path / "folder", {"config.yaml": "system_packages: [ffmpeg]\n", "model/model.py": TYPED})
    refused = home.run("push", str(folder))
    assert refused.returncode == 3
    assert "config.yaml: system_packages: are packages of the operating system" in refused.stderr
    (folder / "config.yaml").write_text("requirments: []\n")
    assert "did you mean 'requirements'?" in home.run("push", str(folder)).stderr
    assert json.loads(home.done("models", "--output", "json")) == []
