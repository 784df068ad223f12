"""How a follower asks the leader over HTTP, where no broker joins the replicas.

Questions and answers are signed with a key that the replicas share, so that no one else can report
or decide; a question names whom it is meant for and counts up, and the answer signs the question's
count too, so none can be used twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterable

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from controlplane.bus.peer_messages import (
    Answer,
    PeerError,
    Question,
    decode_peer_message,
    encode_peer_message,
)
from controlplane.errors import ReportError

PATH = "/replicas/v1"
SIGNATURE = "X-Cats-Signature"
MAX_QUESTION = 16_000_000
"""Bytes; it is read whole before its signature can be checked, so they may be anyone's."""
MAX_ANSWER = 64_000_000
"""Bytes."""
TIMEOUT = 3.0
"""Seconds for one answer."""


class PeerClient:
    """Asks the leader.

    Args:
        session: for any address.
        key: returns the key that the replicas share; may raise `ReportError` or `OSError`.
    """

    def __init__(self, session: aiohttp.ClientSession, *, key: Callable[[], str]) -> None:
        self._session = session
        self._key = key
        self.reached = False
        """Whether the last question was answered."""

    async def ask(self, address: str, question: Question) -> Answer:
        """Return the leader's answer.

        Raises:
            PeerError: there is none.
        """
        self.reached = False
        body = encode_peer_message(question)
        try:
            key = self._key()
            async with self._session.post(
                f"http://{address}{PATH}",
                data=body,
                headers={SIGNATURE: sign(key, body)},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise PeerError(f"status {answer.status}")
                content = await _read(answer)
                signature = answer.headers.get(SIGNATURE, "")
        except (aiohttp.ClientError, OSError, ReportError) as error:
            raise PeerError(str(error)) from error
        if not hmac.compare_digest(signature, sign(key, content, question.count)):
            raise PeerError("an answer without the replicas' signature")
        read = decode_peer_message(Answer, content)
        self.reached = True
        return read


def make_peer_application(
    answer: Callable[[Question], Answer | None],
    *,
    key: Callable[[], str],
    middlewares: Iterable[Middleware] = (),
) -> web.Application:
    """Return the application that answers followers.

    Args:
        answer: the leader's answer; None if this replica does not lead.
        key: as for `PeerClient`.
        middlewares: what bounds its connections.
    """

    async def serve(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            shared = key()
        except (OSError, ReportError):
            return web.Response(status=503, text="the replicas' key cannot be read")
        if not hmac.compare_digest(request.headers.get(SIGNATURE, ""), sign(shared, body)):
            return web.Response(status=401, text="not signed with the replicas' key")
        try:
            question = decode_peer_message(Question, body)
        except PeerError as error:
            return web.Response(status=400, text=str(error))
        said = answer(question)
        if said is None:
            return web.Response(status=409, text="another replica leads")
        content = await asyncio.to_thread(encode_peer_message, said)
        signature = sign(shared, content, question.count)
        return web.Response(
            body=content, headers={SIGNATURE: signature}, content_type="application/json"
        )

    application = web.Application(client_max_size=MAX_QUESTION, middlewares=tuple(middlewares))
    application.router.add_post(PATH, serve)
    return application


def sign(key: str, body: bytes, count: int = 0) -> str:
    """Return the signature of a question, or of the answer to the question *count*."""
    content = str(count).encode() + b"\n" + body
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_chunked(65_536):
        content += chunk
        if len(content) > MAX_ANSWER:
            raise PeerError(f"an answer of more than {MAX_ANSWER} bytes")
    return bytes(content)
