"""KServe's v2 protocol over gRPC, as Triton speaks it: an emulated server, and a client of it.

Of the messages only the model's name is written and read, field 1 of both `ModelInferRequest` and
`ModelInferResponse`; what else they hold decides nothing here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from testbed.fakes.engine import Demand

if TYPE_CHECKING:
    from testbed.fakes.instances import EmulatedInstance

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
TOKENS = 100
"""Work of one request, in output tokens of a text."""
_NAME_TAG = b"\x0a"
"""Field 1, a string."""
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}


def write_message(model: str) -> bytes:
    """Write a request or an answer; a name has up to 127 bytes."""
    name = model.encode()
    return _NAME_TAG + bytes([len(name)]) + name


def read_model(message: bytes) -> str:
    """Return the model that a message names, empty if it does not begin with a name."""
    return message[2 : 2 + message[1]].decode() if message[:1] == _NAME_TAG else ""


@asynccontextmanager
async def serving_kserve(instance: EmulatedInstance, port: int) -> AsyncIterator[int]:
    """Answer for *instance* on *port* of loopback (0 takes a free one); return the port."""

    async def infer(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        model = read_model(message)
        await instance.until_awake()
        if instance.failing:
            await context.abort(grpc.StatusCode.INTERNAL, "the instance was informed to fail")
        known = instance.settings.serves or (instance.settings.model,)
        if model not in known:
            unknown = f"Request for unknown model: '{model}' is not found"
            await context.abort(grpc.StatusCode.NOT_FOUND, unknown)
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        await instance.work(Demand(1, TOKENS), metadata)
        return write_message(model)

    server = grpc.aio.server()
    methods = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0.5)


class KserveClient:
    """Calls `ModelInfer`, over one channel to each address."""

    def __init__(self) -> None:
        self._channels: dict[str, Any] = {}

    async def infer(
        self, address: str, model: str, *, metadata: Mapping[str, str], patience: float
    ) -> tuple[int, str, Mapping[str, str]]:
        """Return the status as HTTP has it, what went wrong, and the answer's metadata.

        Args:
            address: HOST:PORT.
            model: its name.
            metadata: of the call.
            patience: seconds that the answer may take.
        """
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.aio.insecure_channel(address)
        call = channel.unary_unary(INFER)(
            write_message(model), metadata=tuple(metadata.items()), timeout=patience
        )
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return _HTTP_STATUS.get(error.code(), 500), f"{error.code().name} {error.details()}", {}
        headers = {str(key): str(value) for key, value in await call.initial_metadata()}
        return 200, "" if read_model(answer) == model else "not the model's answer", headers

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()
