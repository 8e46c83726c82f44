"""What gRPC's own Python client does with a server that speaks TLS, in its own environment: ``grpcio_tls_calls.py HOST:PORT CERT``.

Every function ``check_*`` is one promise, told in its docstring; it takes a channel and raises if the promise is broken. Prints one
JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 60


def check_secure_channel(channel):
    """gRPC asks for h2 in the handshake and gets it: a call, and a stream that stays open."""
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def refusal(call, request):
    """Return status and text of the error that a call must end in."""
    try:
        call(request, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def check_large_messages(channel):
    """A megabyte crosses TLS whole: the server says what it thinks of it."""
    code, text = refusal(channel.unary_unary("/inference.GRPCInferenceService/ModelInfer"), b"\xff" * 1_000_000)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "cannot be parsed" in text


def check_a_channel_that_trusts_nobody(_):
    """Without the certificate there is no call."""
    with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
        code, _ = refusal(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest())
        assert code is grpc.StatusCode.UNAVAILABLE


def main():
    """Run every check with a channel of its own and print the outcomes."""
    credentials = grpc.ssl_channel_credentials(Path(sys.argv[2]).read_bytes())
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                with grpc.secure_channel(sys.argv[1], credentials) as channel:
                    check(channel)
                outcomes[name] = "ok"
            except Exception:
                outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
