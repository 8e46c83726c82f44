"""Import libraries in the order of the command line, in one process, and use each: ``import_order.py NAME...``.

The process-wide pool of protocol buffers takes each name once. Who puts ``inference.ModelInferRequest`` there twice fails at import,
and which of two libraries is to blame depends on the order alone. Prints ``ok`` or ends with a traceback.
"""

from __future__ import annotations

import importlib
import struct
import sys
from types import SimpleNamespace


def use_headgate():
    """Read a request and write the answer to it."""
    signature = importlib.import_module("headgate.package.signature")
    base = importlib.import_module("headgate.protocols.base")
    protocol = importlib.import_module("headgate.protocols.oip").OIPGrpc()
    tensor = signature.TensorSpec(name="x", dtype="FP32", shape=(-1, 1))
    plan = base.Plan("m", signature.Signature(inputs=(tensor,), outputs=(tensor,), batched=True), max_rows=4, splittable=True)
    message = protocol.messages.message("inference.ModelInferRequest")(model_name="m", raw_input_contents=[struct.pack("<f", 1.5)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request = SimpleNamespace(path="/inference.GRPCInferenceService/ModelInfer", headers={})
    infer = protocol.decode(request, protocol.parse(request, message.SerializeToString()), plan)
    assert bytes(infer.data[0]) == struct.pack("<f", 1.5)


def use_tritonclient():
    """Build a request."""
    triton = importlib.import_module("tritonclient.grpc")
    numpy = importlib.import_module("numpy")
    tensor = triton.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(numpy.ones((1, 1), dtype="float32"))
    assert triton.service_pb2.ModelInferRequest(model_name="m").SerializeToString()


def use_shelf():
    """Load every protocol there is, and describe every service."""
    grpc = importlib.import_module("headgate.protocols.base.grpc")
    assert "inference.GRPCInferenceService" in grpc.services()


USES = {"headgate": use_headgate, "tritonclient": use_tritonclient, "shelf": use_shelf}

for library in sys.argv[1:]:
    USES[library]()
for library in sys.argv[1:]:
    USES[library]()
print("ok")
