"""A validating webhook: `kubectl apply` of a faulty fleet fails with its errors.

The API server asks before it stores a ConfigMap (admission.k8s.io/v1,
kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers); each of its keys
that ends in ``fleet.yaml`` is checked as `cats check` does. Nothing is kept or decided.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from controlplane.admin_api.protection import count_answers
from controlplane.config import check_config
from controlplane.errors import ConfigError
from controlplane.runtime.json_text import dump

PATH = "/validate-fleet"
BODY_LIMIT = 4_000_000
"""Bytes of a review: a ConfigMap has a million at most, and comes twice, as it was and will be."""
AT_ONCE = 2
"""Reviews that are worked on at once; more wait, and the API server gives up on them by itself."""
MAX_WARNING = 256
"""Characters of a warning that the API server passes on; longer ones may be dropped."""
MAX_WARNINGS = 20
KEY = "fleet.yaml"


def build_admission() -> web.Application:
    """Return the application that answers reviews."""
    seats = asyncio.Semaphore(AT_ONCE)

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        async with seats:
            document, status = await asyncio.to_thread(_answer, body)
        return web.Response(body=dump(document), status=status, content_type="application/json")

    application = web.Application(client_max_size=BODY_LIMIT, middlewares=[count_answers])
    application.router.add_post(PATH, answer)
    return application


def _answer(body: bytes) -> tuple[dict[str, Any], int]:
    try:
        review = json.loads(body)
        request = review["request"]
        answer = review_fleet(request)
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"error": "not an AdmissionReview of admission.k8s.io/v1"}, 400
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}, 200


def review_fleet(request: Any) -> dict[str, Any]:
    """Return the response to an AdmissionReview's *request*.

    Raises:
        KeyError, TypeError: it is no such request.
    """
    answer: dict[str, Any] = {"uid": str(request["uid"]), "allowed": True}
    stored = request.get("object")
    texts = stored.get("data") if isinstance(stored, dict) else None
    faults: list[str] = []
    warnings: list[str] = []
    for key, text in (texts if isinstance(texts, dict) else {}).items():
        if not key.endswith(KEY) or not isinstance(text, str):
            continue
        try:
            warnings += map(str, check_config(text, file=key).warnings)
        except ConfigError as error:
            faults += map(str, error.faults)
    if faults:
        answer["allowed"] = False
        more = len(faults) - MAX_WARNINGS
        shown = [*faults[:MAX_WARNINGS], *([f"and {more} more errors"] if more > 0 else [])]
        # kubectl prints the message as it is.
        answer["status"] = {"code": 422, "reason": "Invalid", "message": "\n".join(shown)}
    elif warnings:
        answer["warnings"] = [text[:MAX_WARNING] for text in warnings[:MAX_WARNINGS]]
    return answer
