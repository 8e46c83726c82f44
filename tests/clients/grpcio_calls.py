"""What gRPC's own Python client does with a server, in its own environment: ``grpcio_calls.py HOST:PORT GATE MESSAGES``.

Every function ``check_*`` is one promise, told in its docstring; it takes a channel and raises if the promise is broken. Prints one
JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import traceback

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_messages import (
    SECONDS,
    SERVICE,
    URL,
    Request,
    Response,
    Streamed,
    both,
    eventually,
    executed,
    gate,
    gate_metric,
    held,
    is_sum,
    message,
)  # fmt: skip
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def infer(channel):
    """Return the method ModelInfer."""
    return channel.unary_unary(SERVICE + "ModelInfer", Request.SerializeToString, Response.FromString)


def stream(channel):
    """Return the method ModelStreamInfer."""
    return channel.stream_stream(SERVICE + "ModelStreamInfer", Request.SerializeToString, Streamed.FromString)


def unary(channel, method, request):
    """Call a method whose messages are named after it."""
    call = channel.unary_unary(SERVICE + method, type(request).SerializeToString, message(f"{method}Response").FromString)
    return call(request, timeout=SECONDS)


def refusal(call, request, timeout=SECONDS):
    """Return status and text of the error that a call must end in."""
    try:
        call(request, timeout=timeout)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def check_unary(channel):
    """A call, with an id of its own in the metadata: the answer, the id back, status 0."""
    response, call = infer(channel).with_call(both(), timeout=SECONDS, metadata=[("x-request-id", "my-id")])
    assert is_sum(response)
    assert dict(call.initial_metadata())["x-request-id"] == "my-id"
    assert call.code() is grpc.StatusCode.OK
    _, call = infer(channel).with_call(both(), timeout=SECONDS)
    assert len(dict(call.initial_metadata())["x-request-id"]) == 36


def check_typed_contents(channel):
    """Tensors element by element, as clients send them that know no raw form, and the answer raw."""
    for _ in range(3):
        request = Request(model_name="sum", id="9")
        for name in "ab":
            request.inputs.add(name=name, datatype="FP32", shape=[1, 16]).contents.fp32_contents.extend(range(16))
        response = infer(channel)(request, timeout=SECONDS)
        assert is_sum(response) and response.id == "9"
    request = Request(model_name="text")
    request.inputs.add(name="text", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"ab", b"\xff"])
    response = infer(channel)(request, timeout=SECONDS)
    assert response.raw_output_contents[0] == struct.pack("<I2sI1s", 2, b"ba", 1, b"\xff")


def check_metadata_methods(channel):
    """The small methods, each with its own message."""
    assert unary(channel, "ServerLive", message("ServerLiveRequest")()).live
    assert unary(channel, "ServerReady", message("ServerReadyRequest")()).ready
    assert unary(channel, "ModelReady", message("ModelReadyRequest")(name="sum")).ready
    assert unary(channel, "ServerMetadata", message("ServerMetadataRequest")()).name == "headgate"
    assert unary(channel, "ModelMetadata", message("ModelMetadataRequest")(name="sum")).inputs[0].shape == [-1, 16]


def check_statuses(channel):
    """Each kind of refusal with its code, and a text with letters that need escaping."""
    call = infer(channel)
    code, text = refusal(call, both(model="n\u00e4mlich %41"))
    assert code is grpc.StatusCode.NOT_FOUND and "'n\u00e4mlich %41'" in text, text
    code, text = refusal(call, Request(model_name="sum"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "expected 2 inputs but got 0 inputs" in text
    request = both()
    request.parameters["sequence_id"].int64_param = 1
    assert refusal(call, request)[0] is grpc.StatusCode.UNIMPLEMENTED
    assert refusal(call, gate(13))[0] is grpc.StatusCode.INTERNAL
    assert refusal(call, gate(14)) == (grpc.StatusCode.INVALID_ARGUMENT, "input 'x': fourteen is not taken")


def check_methods_and_services_that_are_not_there(channel):
    """UNIMPLEMENTED, whatever is sent to them."""
    for path in (SERVICE + "ModelThink", "/inference.Other/ModelInfer", "/x", "/v2/health/live"):
        assert refusal(channel.unary_unary(path), b"\xff\xff")[0] is grpc.StatusCode.UNIMPLEMENTED, path


def check_bytes_that_are_no_message(channel):
    """INVALID_ARGUMENT, and the next call on the connection is fine."""
    call = channel.unary_unary(SERVICE + "ModelInfer")
    for body in (b"\xff", b"\x0a\x05ab", both().SerializeToString()[:-1]):
        code, text = refusal(call, body)
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "cannot be parsed" in text
    assert is_sum(infer(channel)(both(), timeout=SECONDS))


def check_compression(channel):
    """gzip and deflate, small and large, alone and on a stream; the answer can be read."""
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        for rows in (1, 2000):
            response = infer(channel)(both(rows), timeout=SECONDS, compression=compression)
            assert is_sum(response, rows)
            answers = list(stream(channel)(iter([both(rows)] * 2), timeout=SECONDS, compression=compression))
            assert len(answers) == 2 and all(is_sum(answer.infer_response, rows) for answer in answers)


def check_deadline(channel):
    """The call ends when its time is over, though the model still computes; who waits behind it is answered once it is free."""
    with held() as value:
        begun = time.monotonic()
        code, _ = refusal(infer(channel), gate(value), timeout=0.3)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.2 < time.monotonic() - begun < SECONDS / 2
    assert struct.unpack("<q", infer(channel)(gate(5), timeout=SECONDS).raw_output_contents[0]) == (5,)


def check_cancel(channel):
    """What is cancelled while it waits never reaches the model, and those behind it are answered."""
    with held() as value:
        first = infer(channel).future(gate(value), timeout=SECONDS)
        eventually(lambda: executed(value))
        waiting = infer(channel).future(gate(7_000_001), timeout=SECONDS)
        eventually(lambda: gate_metric("headgate_queue_rows") == 1)
        assert waiting.cancel() and waiting.code() is grpc.StatusCode.CANCELLED
        eventually(lambda: gate_metric("headgate_queue_rows") == 0)
        behind = infer(channel).future(gate(7_000_002), timeout=SECONDS)
    assert struct.unpack("<q", first.result().raw_output_contents[0]) == (value,)
    assert struct.unpack("<q", behind.result().raw_output_contents[0]) == (7_000_002,)
    assert executed(7_000_002) and not executed(7_000_001)


def check_full_queue(channel):
    """More than may wait is turned away at once with RESOURCE_EXHAUSTED; those that wait are answered."""
    with held() as value:
        futures = [infer(channel).future(gate(value), timeout=SECONDS)]
        eventually(lambda: executed(value))
        futures += [infer(channel).future(gate(number), timeout=SECONDS) for number in range(20)]
        eventually(lambda: sum(future.done() for future in futures) == 16)
        codes = {future.code() for future in futures if future.done()}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert sum(future.code() is grpc.StatusCode.OK for future in futures) == 5


def check_stream(channel):
    """Any number of requests; the answers come in their order, and the stream ends when the client has ended and all are answered."""
    answers = stream(channel)((both(1 + number % 3, id=str(number)) for number in range(200)), timeout=SECONDS)
    for number, answer in enumerate(answers):
        assert answer.infer_response.id == str(number) and is_sum(answer.infer_response, 1 + number % 3)
    assert number == 199 and answers.code() is grpc.StatusCode.OK


def check_stream_back_and_forth(channel):
    """Each answer comes before the next request is sent: nothing waits for more."""
    turn = threading.Semaphore(1)

    def requests():
        for number in range(20):
            assert turn.acquire(timeout=SECONDS)
            yield both(id=str(number))

    for number, answer in enumerate(stream(channel)(requests(), timeout=SECONDS)):
        assert answer.infer_response.id == str(number)
        turn.release()
    assert number == 19


def check_stream_without_requests(channel):
    """It ends at once, in order."""
    answers = stream(channel)(iter([]), timeout=SECONDS)
    assert list(answers) == [] and answers.code() is grpc.StatusCode.OK


def check_errors_on_a_stream(channel):
    """In the band, with the id; bytes that are no message, too; with the header, as the status that ends the stream."""
    requests = [both(id="1"), both(id="2", model="nobody"), both(id="3")]
    answers = list(stream(channel)(iter(requests), timeout=SECONDS))
    assert [answer.infer_response.id for answer in answers] == ["1", "2", "3"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    raw = channel.stream_stream(SERVICE + "ModelStreamInfer", None, Streamed.FromString)
    answers = list(raw(iter([b"\xff", both().SerializeToString()]), timeout=SECONDS))
    assert "cannot be parsed" in answers[0].error_message and is_sum(answers[1].infer_response)
    ending = stream(channel)(iter(requests), timeout=SECONDS, metadata=[("triton_grpc_error", "true")])
    assert next(ending).infer_response.id == "1"
    assert refusal(lambda _, timeout: next(ending), None)[0] is grpc.StatusCode.NOT_FOUND


def check_a_stream_that_is_cancelled(channel):
    """What waits of it never reaches the model, and the connection lives on."""
    with held() as value:
        answers = stream(channel)(iter([gate(value), gate(8_000_001)]), timeout=SECONDS)
        eventually(lambda: executed(value) and gate_metric("headgate_queue_rows") == 1)
        answers.cancel()
        assert is_sum(infer(channel)(both(), timeout=SECONDS))
        eventually(lambda: gate_metric("headgate_queue_rows") == 0)
    infer(channel)(gate(8_000_002), timeout=SECONDS)
    assert not executed(8_000_001)


def check_large_messages(channel):
    """Beyond any window and frame, both ways, several at once."""
    futures = [infer(channel).future(both(8000), timeout=SECONDS) for _ in range(4)]
    done = [future.code() for future in futures]
    assert grpc.StatusCode.OK in done and set(done) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(is_sum(future.result(), 8000) for future in futures if future.code() is grpc.StatusCode.OK)


def check_messages_that_are_too_large(channel):
    """Refused with RESOURCE_EXHAUSTED before they have come whole; the connection lives on."""
    code, text = refusal(channel.unary_unary(SERVICE + "ModelInfer"), bytes(65 << 20))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "exceeds the maximum allowed" in text, (code, text)
    assert is_sum(infer(channel)(both(), timeout=SECONDS))


def check_many_calls_at_once(channel):
    """Hundreds on one connection: each gets its own answer."""
    futures = []
    for number in range(500):
        request = Request(model_name="tags", raw_input_contents=[struct.pack("<q", number), struct.pack("<I1s", 1, b"x")])
        request.inputs.add(name="number", datatype="INT64", shape=[1, 1])
        request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
        futures.append(infer(channel).future(request, timeout=SECONDS))
    for number, future in enumerate(futures):
        assert struct.unpack("<q", future.result().raw_output_contents[0]) == (2 * number,)


def check_health(channel):
    """Check, List and Watch; a service that is not there is NOT_FOUND to the first and SERVICE_UNKNOWN to the last."""
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "inference.GRPCInferenceService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS).status == serving
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
        assert next(watch).status == serving
        watch.cancel()
    assert stub.List(health_pb2.HealthListRequest(), timeout=SECONDS).statuses[""].status == serving
    unknown = health_pb2.HealthCheckRequest(service="nobody")
    assert refusal(stub.Check, unknown)[0] is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(unknown, timeout=SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def check_reflection(channel):
    """A client that knows nothing learns all services and calls one of them."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= services
    pool = DescriptorPool(database)
    for name in services:
        assert pool.FindServiceByName(name).methods
    assert pool.FindMessageTypeByName("inference.ModelInferRequest").fields_by_name["raw_input_contents"].number == 7


def check_keepalive(channel):
    """Pings are answered, and a call after them is fine."""
    options = [
        *OPTIONS,
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(URL, options) as own:
        assert is_sum(infer(own)(both(), timeout=SECONDS))
        time.sleep(2.5)  # two pings
        assert is_sum(infer(own)(both(), timeout=SECONDS))


def check_asyncio(channel):
    """The client for asyncio: many calls at once, errors, deadlines, cancellation and streams."""
    asyncio.run(_asyncio())


async def _asyncio():
    async with grpc.aio.insecure_channel(URL, OPTIONS) as channel:
        answers = await asyncio.gather(*(infer(channel)(both(id=str(number)), timeout=SECONDS) for number in range(100)))
        assert [answer.id for answer in answers] == [str(number) for number in range(100)]
        with held() as value:
            call = infer(channel)(gate(value), timeout=0.3)
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            cancelled = infer(channel)(gate(9_000_001), timeout=SECONDS)
            await asyncio.sleep(0.1)
            assert cancelled.cancel()
        call = stream(channel)(timeout=SECONDS)
        for number in range(20):
            await call.write(both(id=str(number), model="sum" if number % 5 else "nobody"))
            answer = await call.read()
            assert answer.infer_response.id == str(number) and bool(answer.error_message) is (number % 5 == 0)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


def main():
    """Run every check with a channel of its own and print the outcomes."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                with grpc.insecure_channel(URL, [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]) as channel:
                    check(channel)
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
