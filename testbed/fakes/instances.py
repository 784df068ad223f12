"""Emulated inference instances: OpenAI's HTTP API outside, a batching engine inside.

They answer what an inference server answers, streaming included, expose vLLM's metrics, and take
as long as an accelerator would: time is computed by `testbed.fakes.engine`, so hundreds of requests
a second cost a few per cent of a processor.
Many run in one process (tests) or one in each (the demo, which kills them)::

    python -m testbed.fakes.instances --port 9001 --model assistant-8b --base 200ms --slots 16

A distance that is not there can be emulated: a request that says ``x-emulated-from: SITE`` waits
for the round trip to that site before the engine sees it.

``/emulation``, from loopback only, reads and changes how the machine does::

    curl localhost:9001/emulation -d '{"training": 0.6}'     # a training job takes 60 %
    curl localhost:9001/emulation -d '{"failing": true}'     # answers 500, health included
    curl localhost:9001/emulation -d '{"hung": true}'        # accepts and never answers
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from testbed.fakes.engine import BatchingEngine, Demand, Mark
from testbed.fakes.exposition import build_exposition
from testbed.fakes.instance_settings import InstanceSettings, parse_arguments
from testbed.fakes.openai_answers import AnswerShape, read_body, refusal, server_sent_event, words

MAX_TOKENS = 4096
"""Longest answer; a request for more is refused, as an engine refuses what exceeds its context."""
DEFAULT_TOKENS = 100
PIECES = 8
"""Events of a streamed answer, beside its first token; each carries its part of the tokens."""
IMAGE_FACTOR = 4.0
"""Work of an image beside a text of as many tokens."""
BODY_LIMIT = 32 * 2**20
EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""What an instance answers instead of what it should; None lets it answer as it should."""


class EmulatedInstance:
    """A running instance; an asynchronous context manager.

    Attributes:
        engine: what it is doing; tests look at it.
        port: where it listens once started.
        fault: what it does to requests for inference before the engine sees them; its metrics and
            its health stay as they are.
        requests: the requests for inference that reached it, whatever became of them.
    """

    def __init__(self, settings: InstanceSettings) -> None:
        self.settings = settings
        self.port = settings.port
        self.failing = False
        self.fault: Fault | None = None
        self.requests = 0
        self._loop = asyncio.get_running_loop()
        self.engine = BatchingEngine(
            settings.curve, kv_tokens=settings.kv_tokens, now=self._loop.time()
        )
        self._awake = asyncio.Event()
        self._awake.set()
        self._timer: asyncio.TimerHandle | None = None
        self._marks: dict[int, asyncio.Queue[Mark]] = {}
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._misbehave])
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._completions),
                web.post("/v1/embeddings", self._embeddings),
                web.post("/v1/images/generations", self._images),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/emulation", self._show_emulation),
                web.post("/emulation", self._change_emulation),
            ]
        )
        # A client that hangs up frees its slot, as it does in vLLM.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._awake.set()
        if self._timer is not None:
            self._timer.cancel()
        await self._runner.cleanup()

    @property
    def address(self) -> str:
        """Return HOST:PORT."""
        return f"{self.settings.host}:{self.port}"

    @property
    def hung(self) -> bool:
        """Whether it accepts requests and never answers."""
        return not self._awake.is_set()

    def train(self, share: float) -> None:
        """Let a training job use *share* of the machine; 0 ends it."""
        self._advance()
        self.engine.train(share, now=self._loop.time())
        self._advance()

    def hang(self, hung: bool) -> None:
        """Stop answering anything, or go on where it stopped."""
        self._advance()
        self.engine.freeze(hung, now=self._loop.time())
        if hung:
            self._awake.clear()
        else:
            self._awake.set()
        self._advance()

    # The engine's clock: one timer, set to the next mark.

    def _advance(self) -> None:
        for mark in self.engine.advance(now=self._loop.time()):
            queue = self._marks.get(mark.ticket)
            if queue is not None:
                queue.put_nowait(mark)
        if self._timer is not None:
            self._timer.cancel()
        due = self.engine.next_at()
        self._timer = None if due is None else self._loop.call_at(due, self._advance)

    async def until_awake(self) -> None:
        """Wait while it is hung."""
        await self._awake.wait()

    async def work(self, demand: Demand, headers: Mapping[str, str]) -> None:
        """Do the work of a request with *headers*."""
        async with contextlib.aclosing(self._run(demand, headers)) as marks:
            async for _ in marks:
                pass

    async def _run(self, demand: Demand, headers: Mapping[str, str]) -> AsyncGenerator[Mark]:
        distance = self.settings.rtt.get(headers.get("x-emulated-from", ""), 0.0)
        if distance > 0:
            await asyncio.sleep(distance)
        self._advance()
        ticket = self.engine.submit(demand, now=self._loop.time())
        queue = self._marks[ticket] = asyncio.Queue()
        self._advance()
        try:
            while True:
                mark = await queue.get()
                yield mark
                if mark.last:
                    return
        finally:
            del self._marks[ticket]
            self._advance()
            self.engine.cancel(ticket, now=self._loop.time())
            self._advance()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/emulation":
            await self.until_awake()
            if request.path.startswith("/v1/") and request.method == "POST":
                self.requests += 1
                if self.fault is not None and (bad := await self.fault(request)) is not None:
                    return bad
            if self.failing:
                return refusal(500, "the instance was informed to fail", "internal_error")
            if self.settings.serves and request.method == "POST":
                asked = await read_body(request)
                if isinstance(asked, web.Response):
                    return asked
                if asked.get("model") not in self.settings.serves:
                    message = f"The model `{asked.get('model')}` does not exist."
                    return refusal(404, message, "NotFoundError")
        response: web.StreamResponse = await handler(request)
        return response

    # OpenAI's API.

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await read_body(request)
        if isinstance(asked, web.Response):
            return asked
        messages = asked.get("messages")
        if not isinstance(messages, list) or not messages:
            return refusal(400, "messages must be a list that is not empty")
        prompt = " ".join(
            str(each.get("content", "")) for each in messages if isinstance(each, dict)
        )
        return await self._complete(request, asked, prompt, chat=True)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        asked = await read_body(request)
        if isinstance(asked, web.Response):
            return asked
        return await self._complete(request, asked, str(asked.get("prompt", "")), chat=False)

    async def _complete(
        self, request: web.Request, asked: Mapping[str, Any], prompt: str, *, chat: bool
    ) -> web.StreamResponse:
        limit = asked.get("max_completion_tokens", asked.get("max_tokens", DEFAULT_TOKENS))
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_TOKENS:
            return refusal(400, f"max_tokens must be an integer from 1 to {MAX_TOKENS}")
        stream = asked.get("stream") is True
        demand = Demand(max(1, len(prompt.split())), limit, PIECES if stream else 1)
        shape = AnswerShape(self.settings.model, chat=chat, stream=stream)
        usage = {
            "prompt_tokens": demand.prompt_tokens,
            "completion_tokens": demand.output_tokens,
            "total_tokens": demand.prompt_tokens + demand.output_tokens,
        }
        if not stream:
            await self.work(demand, request.headers)
            return web.json_response(shape.whole(words(0, limit), usage))
        response = web.StreamResponse(
            headers={"content-type": "text/event-stream", "cache-control": "no-cache"}
        )
        reported = 0
        async with contextlib.aclosing(self._run(demand, request.headers)) as marks:
            async for mark in marks:
                if reported == 0:
                    await response.prepare(request)
                await response.write(
                    server_sent_event(shape.piece(words(reported, mark.tokens), mark.last))
                )
                reported = mark.tokens
        options = asked.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage") is True:
            await response.write(
                server_sent_event({**shape.frame(), "choices": [], "usage": usage})
            )
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        asked = await read_body(request)
        if isinstance(asked, web.Response):
            return asked
        given = asked.get("input", "")
        texts = given if isinstance(given, list) else [given]
        tokens = sum(max(1, len(str(text).split())) for text in texts)
        await self.work(Demand(tokens, 0), request.headers)
        vectors = [
            {"object": "embedding", "index": index, "embedding": [1.0, 0.0, 0.0, 0.0]}
            for index, _ in enumerate(texts)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response(
            {"object": "list", "data": vectors, "model": self.settings.model, "usage": usage}
        )

    async def _images(self, request: web.Request) -> web.StreamResponse:
        asked = await read_body(request)
        if isinstance(asked, web.Response):
            return asked
        number = asked.get("n", 1)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 10:
            return refusal(400, "n must be an integer from 1 to 10")
        words_asked = len(str(asked.get("prompt", "")).split())
        await self.work(
            Demand(words_asked, DEFAULT_TOKENS, factor=IMAGE_FACTOR * number), request.headers
        )
        return web.json_response({"created": 0, "data": [{"b64_json": ""}] * number})

    async def _models(self, _request: web.Request) -> web.Response:
        names = self.settings.serves or (self.settings.model,)
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "testbed"} for name in names
        ]
        return web.json_response({"object": "list", "data": models})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _request: web.Request) -> web.Response:
        self._advance()
        page = build_exposition(self.engine, model=self.settings.model)
        return web.Response(body=page.encode(), headers={"content-type": EXPOSITION_TYPE})

    # The operator of the emulation.

    async def _show_emulation(self, request: web.Request) -> web.Response:
        if request.remote not in {"127.0.0.1", "::1"}:
            return refusal(403, "only from loopback")
        state = {
            "training": self.engine.training,
            "failing": self.failing,
            "hung": self.hung,
            "running": self.engine.running,
            "waiting": self.engine.waiting,
        }
        return web.json_response(state)

    async def _change_emulation(self, request: web.Request) -> web.Response:
        if request.remote not in {"127.0.0.1", "::1"}:
            return refusal(403, "only from loopback")
        asked = await read_body(request)
        if isinstance(asked, web.Response):
            return asked
        if unknown := sorted(set(asked) - {"training", "failing", "hung"}):
            return refusal(400, f"no such switch: {', '.join(unknown)}")
        try:
            if "training" in asked:
                self.train(float(asked["training"]))
        except (TypeError, ValueError) as error:
            return refusal(400, str(error))
        self.failing = bool(asked.get("failing", self.failing))
        if "hung" in asked:
            self.hang(bool(asked["hung"]))
        return await self._show_emulation(request)


async def serve(settings: InstanceSettings) -> None:
    """Run one instance until SIGINT or SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        instance = await stack.enter_async_context(EmulatedInstance(settings))
        if settings.grpc_port:
            # Here, because gRPC is loaded for few instances.
            from testbed.fakes.kserve import serving_kserve  # noqa: PLC0415

            await stack.enter_async_context(serving_kserve(instance, settings.grpc_port))
        print(f"{settings.model} at http://{instance.address}", flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(parse_arguments()))
