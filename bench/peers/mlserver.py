"""MLServer with a custom runtime, no parallel workers; its HTTP endpoint speaks OIP V2 in JSON only."""

# The framework is only in the peer's own environment.
# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

from typing import ClassVar

from bench.peers.base import OipPeer, options
from bench.session import session


class MlServer(OipPeer):
    name = "mlserver"
    title = "MLServer, parallel_workers=0"
    requirements = ("mlserver==1.7.*", "onnxruntime>=1.22", "numpy")
    shown = ("mlserver", "onnxruntime")
    missing: ClassVar = {"binary": "no binary tensors over HTTP", "grpc": "not measured"}


PEER = MlServer()


def serve() -> None:
    """The server itself, in the peer's environment."""
    import asyncio
    import tempfile
    from pathlib import Path

    from mlserver import MLModel, MLServer, ModelSettings
    from mlserver.codecs import NumpyCodec
    from mlserver.settings import Settings
    from mlserver.types import InferenceRequest, InferenceResponse

    given = options()
    # MLServer imports the class by its path, so it has to be a name of this module.
    global OnnxModel

    class OnnxModel(MLModel):
        async def load(self) -> bool:
            self.session = session(given.model)
            self.tensor = self.session.get_inputs()[0]
            self.output = self.session.get_outputs()[0].name
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            batch = NumpyCodec.decode_input(payload.inputs[0])
            (answer,) = self.session.run(None, {self.tensor.name: batch})
            return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(self.output, answer)])

    async def run(folder: str) -> None:
        settings = Settings(
            debug=False, host="127.0.0.1", http_port=given.port, grpc_port=given.spare, parallel_workers=0,
            metrics_endpoint=None, metrics_dir=folder, load_models_at_startup=False, model_repository_root=folder,
        )  # fmt: skip
        server = MLServer(settings)
        await server.start([ModelSettings(name=Path(given.model).stem, implementation=OnnxModel)])

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


if __name__ == "__main__":
    serve()
