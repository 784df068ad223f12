"""The agent's own HTTP port: health, what it does, and training jobs' word on themselves.

``PUT /v1/training/JOB`` with ``{"share": 0.5, "for": 60}`` says that a job takes half of the
machine for the next minute; ``DELETE`` ends it. It has no login: keep it on loopback.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from controlplane.agent.training import PushedJobs

MAX_BODY = 4096
LONGEST_JOB = 3600.0
"""Seconds that one push counts at most; a job pushes again while it runs."""
MAX_NAME = 100


def build_api(
    jobs: PushedJobs,
    *,
    shown: Callable[[], dict[str, Any]],
    clock: Callable[[], float] = time.monotonic,
) -> web.Application:
    """Return the application; *shown* is what ``GET /v1/state`` answers."""

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def state(_: web.Request) -> web.Response:
        return web.json_response(shown())

    async def push(request: web.Request) -> web.Response:
        name = request.match_info["job"]
        if len(name) > MAX_NAME:
            return _refuse(f"a job's name has at most {MAX_NAME} characters")
        try:
            reported = json.loads(await request.read())
            share, lasts = float(reported["share"]), float(reported.get("for", 60))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _refuse('send JSON such as {"share": 0.5, "for": 60}')
        if not 0 <= share <= 1:
            return _refuse("share lies between 0 and 1")
        if not (math.isfinite(lasts) and 0 < lasts <= LONGEST_JOB):
            return _refuse(f"for lies between 0 and {LONGEST_JOB:g} seconds")
        jobs.push(name, share, until=clock() + lasts)
        return web.Response(status=204)

    async def end(request: web.Request) -> web.Response:
        jobs.push(request.match_info["job"][:MAX_NAME], 0.0, until=clock())
        return web.Response(status=204)

    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_get("/healthz", health)
    application.router.add_get("/v1/state", state)
    application.router.add_put("/v1/training/{job}", push)
    application.router.add_delete("/v1/training/{job}", end)
    return application


def _refuse(reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=400)
