"""Serves one real model over HTTP, with the generic metrics that `engine: generic` reads.

``python model_server.py --model embedding --port 9001``: the body of any POST is the input.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from models import Model, load

MAX_BODY = 8 * 2**20


class ModelServer:
    """One model, as many requests at once as there are slots; others wait in line."""

    def __init__(self, model: Model, *, slots: int) -> None:
        self._model = model
        self._slots = slots
        self._pool = ThreadPoolExecutor(slots)
        self._inside = self._done = self._failed = 0
        self._seconds = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        """Run the model on the body."""
        started_at = time.monotonic()
        self._inside += 1
        try:
            body = await request.read()
            loop = asyncio.get_running_loop()
            said = await loop.run_in_executor(self._pool, self._model.answer, body)
        except (ValueError, OSError) as error:
            self._failed += 1
            return web.json_response({"error": str(error)}, status=400)
        finally:
            self._inside -= 1
        self._done += 1
        self._seconds += time.monotonic() - started_at
        return web.json_response(said)

    async def metrics(self, _: web.Request) -> web.Response:
        """Return how it does, in Prometheus' text."""
        running = min(self._inside, self._slots)
        reported = {
            "cats_requests_running": running,
            "cats_requests_waiting": self._inside - running,
            "cats_slots": self._slots,
            "cats_requests_completed_total": self._done,
            "cats_requests_failed_total": self._failed,
            "cats_request_latency_seconds_sum": self._seconds,
            "cats_request_latency_seconds_count": self._done,
        }
        return web.Response(text="".join(f"{name} {value}\n" for name, value in reported.items()))


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=1)
    given = parser.parse_args()
    server = ModelServer(load(given.model), slots=given.slots)
    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_get("/metrics", server.metrics)
    application.router.add_post("/{path:.*}", server.answer)
    web.run_app(application, host="127.0.0.1", port=given.port, print=None)


if __name__ == "__main__":
    main()
