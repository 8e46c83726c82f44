"""What ``grpclib``, which has an HTTP/2 of its own (h2), does with a server: ``grpclib_calls.py HOST:PORT GATE MESSAGES``.

Every function ``check_*`` is one promise, told in its docstring; it takes a channel and raises if the promise is broken. Prints one
JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import traceback

from grpc_messages import SECONDS, SERVICE, URL, Request, Response, Streamed, both, gate, held, is_sum, message
from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse


def infer(channel):
    """Return the method ModelInfer."""
    return UnaryUnaryMethod(channel, SERVICE + "ModelInfer", Request, Response)


def stream(channel):
    """Return the method ModelStreamInfer, opened."""
    return StreamStreamMethod(channel, SERVICE + "ModelStreamInfer", Request, Streamed).open(timeout=SECONDS)


async def refusal(call, request, **options):
    """Return the error that a call must end in."""
    options.setdefault("timeout", SECONDS)
    (error,) = await asyncio.gather(call(request, **options), return_exceptions=True)
    assert isinstance(error, Exception), error
    return error


async def check_unary(channel):
    """One call after the other, and many at once, each with its own answer."""
    for _ in range(3):
        assert is_sum(await infer(channel)(both(), timeout=SECONDS))
    answers = await asyncio.gather(*(infer(channel)(both(id=str(number)), timeout=SECONDS) for number in range(200)))
    assert [answer.id for answer in answers] == [str(number) for number in range(200)]


async def check_metadata(channel):
    """The id of the request comes back in the initial metadata, status 0 in the trailers."""
    async with infer(channel).open(timeout=SECONDS, metadata={"x-request-id": "my-id"}) as call:
        await call.send_message(both(), end=True)
        assert is_sum(await call.recv_message())
        await call.recv_trailing_metadata()
        assert call.initial_metadata["x-request-id"] == "my-id"


async def check_statuses(channel):
    """Each kind of refusal with its code and its words."""
    error = await refusal(infer(channel), both(model="n\u00e4mlich %41"))
    assert error.status is Status.NOT_FOUND and "'n\u00e4mlich %41'" in error.message
    error = await refusal(infer(channel), Request(model_name="sum"))
    assert error.status is Status.INVALID_ARGUMENT and "expected 2 inputs but got 0 inputs" in error.message
    assert (await refusal(infer(channel), gate(13))).status is Status.INTERNAL
    live, answer = message("ServerLiveRequest"), message("ServerLiveResponse")
    unknown = UnaryUnaryMethod(channel, SERVICE + "ServerDead", live, answer)
    assert (await refusal(unknown, live())).status is Status.UNIMPLEMENTED
    assert (await UnaryUnaryMethod(channel, SERVICE + "ServerLive", live, answer)(live(), timeout=SECONDS)).live


async def check_deadline(channel):
    """The call ends when its time is over, and the connection lives on."""
    with held() as value:
        begun = time.monotonic()
        error = await refusal(infer(channel), gate(value), timeout=0.3)
        assert isinstance(error, asyncio.TimeoutError) or error.status is Status.DEADLINE_EXCEEDED
        assert time.monotonic() - begun < SECONDS / 2
    assert struct.unpack("<q", (await infer(channel)(gate(5), timeout=SECONDS)).raw_output_contents[0]) == (5,)


async def check_stream(channel):
    """Sent all at once, the answers come in order; sent one by one, each comes before the next is sent."""
    async with stream(channel) as call:
        for number in range(100):
            await call.send_message(both(id=str(number)), end=number == 99)
        answers = [answer.infer_response.id async for answer in call]
    assert answers == [str(number) for number in range(100)]
    async with stream(channel) as call:
        for number in range(20):
            await call.send_message(both(id=str(number), model="sum" if number % 5 else "nobody"))
            answer = await call.recv_message()
            assert answer.infer_response.id == str(number) and bool(answer.error_message) is (number % 5 == 0)
        await call.end()
        assert await call.recv_message() is None


async def check_large_messages(channel):
    """Beyond any window and frame, both ways, alone and on a stream."""
    assert is_sum(await infer(channel)(both(8000), timeout=SECONDS), 8000)
    async with stream(channel) as call:
        for _ in range(3):
            await call.send_message(both(8000))
            assert is_sum((await call.recv_message()).infer_response, 8000)
        await call.end()


async def check_health(channel):
    """Check, and Watch until the client goes."""
    stub = HealthStub(channel)
    assert (await stub.Check(HealthCheckRequest(service=""), timeout=SECONDS)).status == HealthCheckResponse.SERVING
    assert (await refusal(stub.Check, HealthCheckRequest(service="nobody"))).status is Status.NOT_FOUND
    async with stub.Watch.open(timeout=SECONDS) as watch:
        await watch.send_message(HealthCheckRequest(service=""), end=True)
        assert (await watch.recv_message()).status == HealthCheckResponse.SERVING
        await watch.cancel()
    assert is_sum(await infer(channel)(both(), timeout=SECONDS))


async def run():
    """Run every check with a channel of its own and print the outcomes."""
    outcomes = {}
    host, _, port = URL.rpartition(":")
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            channel = Channel(host, int(port))
            try:
                await check(channel)
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
            finally:
                channel.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    asyncio.run(run())
