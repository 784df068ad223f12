"""Plain HTTP servers behind an Envoy: they answer at once, count, and fail or stream as reported.

For tests of how requests travel; `testbed.fakes.instances` emulates how long inference takes.
"""

from __future__ import annotations

import asyncio
import email
import json
import ssl
from types import TracebackType
from typing import Self

from aiohttp import web


def named_model(content_type: str, body: bytes) -> str:
    """Return the model that a JSON body or a form names; empty if it names none."""
    if content_type.startswith("multipart/form-data"):
        form = email.message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
        for part in form.walk():
            if part.get_param("name", header="content-disposition") == "model":
                return str(part.get_payload())
        return ""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    return str(document.get("model", "")) if isinstance(document, dict) else ""


class Origin:
    """One server on loopback.

    Attributes:
        requests: how many it got, whatever it answered.
        bodies: sizes of their bodies.
        content: body of the last request.
        status: what it answers.
        answers: (status, headers) of the next answers, before those of *status*.
        ends_streams: whether streams end now, before all their events.
        hangs: whether it takes requests and never answers.
        delay: seconds before it answers.
        serves: the only model it knows; a request that names another gets 404. None knows all.
        models: the models that requests named.
        headers: of the last request.
        path: of the last request, with its query.
        keeps: whether connections last for more than one request.
        tls_version: of the last request; empty in clear text.
        shown: serial numbers of the certificates that clients showed, in order, each once.
    """

    def __init__(self, name: str, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self._tls = tls
        self.shown: list[int] = []
        self.tls_version = ""
        self.keeps = True
        self.requests = 0
        self.bodies: list[int] = []
        self.status = 200
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hangs = False
        self.delay = 0.0
        self.ends_streams = False
        self.serves: str | None = None
        self.models: list[str] = []
        self.content = b""
        self.headers: dict[str, str] = {}
        self.path = ""
        self.port = port
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.die()

    async def die(self) -> None:
        """Close the port and every connection; does nothing the second time."""
        await self._runner.cleanup()

    @property
    def address(self) -> str:
        """Return HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.headers = dict(request.headers)
        self.path = request.path_qs
        self._note_certificate(request)
        body = self.content = await request.read()
        self.bodies.append(len(body))
        if self.hangs:
            await asyncio.Event().wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        status, headers = self.answers.pop(0) if self.answers else (self.status, {})
        if status != 200:
            return web.Response(status=status, text="failed as asked", headers=headers)
        if self.serves is not None and (wrong := self._foreign_model(request, body)):
            return wrong
        if "events" not in request.query:
            answer = web.Response(text=self.name, headers={"x-cats-instance": "forged"})
            if not self.keeps:
                answer.force_close()
            return answer
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for number in range(int(request.query["events"])):
            if self.ends_streams:
                break
            await stream.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(float(request.query["gap"]))
        return stream

    def _foreign_model(self, request: web.Request, body: bytes) -> web.Response | None:
        """Answer 404 as vLLM does when it is asked for a model that it does not serve."""
        model = named_model(request.headers.get("content-type", ""), body)
        self.models.append(model)
        if model == self.serves:
            return None
        error = {"message": f"The model `{model}` does not exist.", "code": 404}
        return web.json_response({"error": error}, status=404)

    def _note_certificate(self, request: web.Request) -> None:
        tls = request.transport and request.transport.get_extra_info("ssl_object")
        self.tls_version = tls.version() if tls else ""
        shown = tls and tls.getpeercert()
        if shown and (number := int(shown["serialNumber"], 16)) not in self.shown:
            self.shown.append(number)
