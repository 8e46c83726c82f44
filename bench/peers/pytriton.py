"""PyTriton: Triton's C++ front with its dynamic batcher, and the model in a Python process."""

# The framework is only in the peer's own environment.
# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

from typing import Any

from bench.peers.base import Launch, OipPeer, options
from bench.session import session


class PyTriton(OipPeer):
    name = "pytriton"
    title = "PyTriton"
    # Its Triton is built against Debian's Python and finds no other.
    requirements = ("nvidia-pytriton==0.7.*", "onnxruntime>=1.22", "numpy")
    shown = ("nvidia-pytriton", "onnxruntime")

    def port(self, launch: Launch) -> int:
        return launch.spare[0] if launch.format == "grpc" else launch.port


PEER = PyTriton()


def serve() -> None:
    """The server itself, in the peer's environment."""
    from pathlib import Path

    import numpy as np
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    given = options()
    model = session(given.model)
    source, target = model.get_inputs()[0], model.get_outputs()[0]

    @batch
    def infer(**inputs: Any) -> list[Any]:
        return list(model.run(None, {source.name: inputs[source.name]}))

    config = TritonConfig(
        http_address="127.0.0.1", http_port=given.port, grpc_address="127.0.0.1", grpc_port=given.spare, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=Path(given.model).stem,
            infer_func=infer,
            inputs=[Tensor(name=source.name, dtype=np.float32, shape=tuple(source.shape[1:]))],
            outputs=[Tensor(name=target.name, dtype=np.float32, shape=tuple(target.shape[1:]))],
            # Room for the rows of all connections, so that requests of 200 rows are batched too.
            config=ModelConfig(max_batch_size=4096, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    serve()
