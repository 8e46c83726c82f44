"""mosec: a front in Rust, and a Python worker in its own process that is given batches; JSON by msgspec."""

# The framework is only in the peer's own environment.
# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

from typing import Any

from bench.peers.base import Launch, RowsPeer, options
from bench.session import session


class Mosec(RowsPeer):
    name = "mosec"
    title = "mosec, 1 worker"
    requirements = ("mosec==0.9.*", "msgspec>=0.20", "onnxruntime>=1.22", "numpy>=2")
    shown = ("mosec", "msgspec", "onnxruntime")
    path = "/inference"
    binary_path = "/inference"

    def variables(self, launch: Launch) -> dict[str, str]:
        return {"MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PORT": str(launch.port), "MOSEC_LOG_LEVEL": "error"}


PEER = Mosec()


def worker(path: str, format: str) -> type:
    """The worker class for one model file and format."""
    import msgspec
    import numpy as np
    from mosec import Worker

    class Rows(msgspec.Struct):
        rows: list[list[float]]

    class Scores(msgspec.Struct):
        scores: list[list[float]]

    class Json(Worker):
        def __init__(self) -> None:
            self.model = session(path)
            self.tensor = self.model.get_inputs()[0]
            self.shape = [-1, *self.tensor.shape[1:]]
            self.decoder = msgspec.json.Decoder(Rows)

        def deserialize(self, data: bytes) -> Any:
            return np.array(self.decoder.decode(data).rows, dtype=np.float32)

        def forward(self, data: list[Any]) -> list[Any]:
            batch = data[0] if len(data) == 1 else np.concatenate(data)
            scores = self.model.run(None, {self.tensor.name: batch})[0]
            return np.split(scores, np.cumsum([len(item) for item in data])[:-1])

        def serialize(self, data: Any) -> bytes:
            return msgspec.json.encode(Scores(data.tolist()))

    class Binary(Json):
        resp_mime_type = "application/octet-stream"

        def deserialize(self, data: bytes) -> Any:
            return np.frombuffer(data, dtype="<f4").reshape(self.shape)

        def serialize(self, data: Any) -> bytes:
            return bytes(data.tobytes())

    return Binary if format == "binary" else Json


if __name__ == "__main__":
    import sys

    from mosec import Server

    given = options()
    # mosec reads the command line itself, and knows only its own options.
    del sys.argv[1:]
    server = Server()
    # The class is made in a function, so workers are forked; a wait of 1 ms is the least that mosec takes.
    server.append_worker(worker(given.model, given.format), num=1, max_batch_size=64, max_wait_time=1, start_method="fork")
    server.run()
