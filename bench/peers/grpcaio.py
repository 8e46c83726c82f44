"""grpc.aio with the messages of the Open Inference Protocol, model inline: what people write for gRPC."""

# The framework is only in the peer's own environment.
# mypy: disable-error-code="import-not-found,import-untyped,misc"

from __future__ import annotations

from typing import Any, ClassVar

from bench.peers.base import OipPeer, options
from bench.session import session


class GrpcAio(OipPeer):
    name = "grpcaio"
    title = "grpc.aio + onnxruntime, 1 process"
    # The messages are those that Triton's client brings.
    requirements = ("grpcio>=1.70", "tritonclient[grpc]>=2.50", "onnxruntime>=1.22", "numpy>=2")
    shown = ("grpcio", "protobuf", "onnxruntime")
    missing: ClassVar = {"json": "speaks gRPC only", "binary": "speaks gRPC only"}


PEER = GrpcAio()


def serve() -> None:
    """The server itself, in the peer's environment."""
    import asyncio

    import grpc
    import numpy as np
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    given = options()
    model = session(given.model)
    source, target = model.get_inputs()[0].name, model.get_outputs()[0].name

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
        async def ModelInfer(self, request: Any, context: Any) -> Any:
            tensor = request.inputs[0]
            batch = np.frombuffer(request.raw_input_contents[0], dtype="<f4").reshape(tensor.shape)
            (result,) = model.run([target], {source: batch})
            answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
            answer.outputs.add(name=target, datatype="FP32", shape=result.shape)
            answer.raw_output_contents.append(result.tobytes())
            return answer

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
        server.add_insecure_port(f"127.0.0.1:{given.port}")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


if __name__ == "__main__":
    serve()
