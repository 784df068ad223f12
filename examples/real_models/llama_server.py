"""Runs llama.cpp's own server (from the overrides ``xllamacpp``) on one model until it is ended.

``python llama_server.py --port 9001 --model tiny.gguf``: OpenAI's API and ``/metrics``.
"""

from __future__ import annotations

import argparse
import signal
import threading

import xllamacpp


def serve(model: str, port: int, slots: int) -> None:
    """Serve *model* on loopback until SIGTERM or SIGINT."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = slots
    parameters.n_ctx = 512 * slots
    parameters.endpoint_metrics = True
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    serve(given.model, given.port, given.slots)
