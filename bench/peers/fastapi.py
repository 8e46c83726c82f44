"""FastAPI, uvicorn (uvloop, httptools), one worker: what people write first."""

# The framework is only in the peer's own environment.
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

# No `from __future__ import annotations`: FastAPI reads the annotations of functions that are defined inside `serve`.
from bench.peers.base import RowsPeer, options
from bench.session import session


class FastApi(RowsPeer):
    name = "fastapi"
    title = "FastAPI + onnxruntime, 1 worker"
    requirements = ("fastapi>=0.115", "uvicorn[standard]>=0.34", "onnxruntime>=1.22", "numpy>=2")
    shown = ("fastapi", "uvicorn", "onnxruntime")
    binary_path = "/predict-binary"


PEER = FastApi()


def serve() -> None:
    """The server itself, in the peer's environment."""
    import numpy as np
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from pydantic import BaseModel

    given = options()
    model = session(given.model)
    tensor = model.get_inputs()[0]
    shape = [-1, *tensor.shape[1:]]
    app = FastAPI()

    class Rows(BaseModel):
        rows: list[list[float]]

    class Scores(BaseModel):
        scores: list[list[float]]

    @app.post("/predict")
    async def predict(body: Rows) -> Scores:
        batch = np.array(body.rows, dtype=np.float32)
        return Scores(scores=model.run(None, {tensor.name: batch})[0].tolist())

    @app.post("/predict-binary")
    async def predict_binary(request: Request) -> Response:
        batch = np.frombuffer(await request.body(), dtype="<f4").reshape(shape)
        return Response(model.run(None, {tensor.name: batch})[0].tobytes(), media_type="application/octet-stream")

    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    serve()
