"""Answers of an inference server in the forms of the OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

WORDS = ("shares", "never", "herd", "but", "winners", "do", "so", "spread", "them", "well")


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """The JSON around an answer."""

    model: str
    chat: bool
    stream: bool

    def frame(self) -> dict[str, Any]:
        """Return what every answer has."""
        kind = "chat.completion" if self.chat else "text_completion"
        if self.chat and self.stream:
            kind += ".chunk"
        name = "chatcmpl-emulated" if self.chat else "cmpl-emulated"
        return {"id": name, "object": kind, "created": 0, "model": self.model}

    def whole(self, text: str, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return an answer in one piece."""
        content: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        )
        choice = {"index": 0, **content, "finish_reason": "length"}
        return {**self.frame(), "choices": [choice], "usage": usage}

    def piece(self, text: str, last: bool) -> dict[str, Any]:
        """Return one event of a stream."""
        content: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "finish_reason": "length" if last else None}
        return {**self.frame(), "choices": [choice]}


async def read_body(request: web.Request) -> dict[str, Any] | web.Response:
    """Return the JSON object that a request carries, or its refusal."""
    try:
        asked = json.loads(await request.read())
    except ValueError:
        return refusal(400, "the body is not JSON")
    if not isinstance(asked, dict):
        return refusal(400, "the body is not a JSON object")
    return asked


def refusal(status: int, message: str, kind: str = "invalid_request_error") -> web.Response:
    """Return an error as OpenAI writes it."""
    return web.json_response(
        {"error": {"message": message, "type": kind, "code": status}}, status=status
    )


def server_sent_event(content: Mapping[str, Any]) -> bytes:
    """Write one event of a stream."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def words(start: int, end: int) -> str:
    """Return the text of the tokens from *start* to *end*."""
    return "".join(f"{WORDS[index % len(WORDS)]} " for index in range(start, end))
