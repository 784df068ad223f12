"""What an emulated instance is like, and the command line that says it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from testbed.fakes.engine import Curve

DEFAULT_CURVE = Curve(base=0.2, crowding=0.01, slots=16)


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """One emulated instance."""

    model: str = "emulated"
    serves: tuple[str, ...] = ()
    """Names of models that it knows; a request that names another gets 404, as from vLLM. Without
    any it answers for all."""
    curve: Curve = DEFAULT_CURVE
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    grpc_port: int = 0
    """Where it speaks KServe's protocol over gRPC beside HTTP; 0 does not."""
    kv_tokens: int = 200_000
    rtt: Mapping[str, float] = field(default_factory=dict)
    """Site -> seconds that a request from there is on its way, both ways together."""


def parse_arguments(arguments: Sequence[str] | None = None) -> InstanceSettings:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.fakes.instances",
        description="An emulated inference instance with OpenAI's API and vLLM's metrics.",
    )

    def duration(text: str) -> float:
        with contextlib.suppress(ValueError):
            return float(text)
        # Here, because it loads the whole configuration: a second that five instances would take.
        from controlplane.config.units import parse_duration  # noqa: PLC0415

        try:
            return parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def distance(text: str) -> tuple[str, float]:
        site, _, rtt = text.partition("=")
        return site, duration(rtt)

    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--grpc-port", type=int, default=0, help="port of KServe's protocol over gRPC, if any"
    )
    parser.add_argument("--model", default="emulated")
    parser.add_argument(
        "--serves", action="append", default=[], help="name of a model it knows; may be repeated,"
        " and any other name gets 404 then"
    )  # fmt: skip
    parser.add_argument(
        "--base",
        type=duration,
        default=0.2,
        help="time of a request before crowding, as 200ms (or bare seconds)",
    )
    parser.add_argument(
        "--crowding", type=duration, default=0.01, help="time each request in the batch adds"
    )
    parser.add_argument("--slots", type=int, default=16, help="requests in the batch at most")
    parser.add_argument(
        "--rtt", type=distance, action="append", default=[], help="SITE=DURATION; may be repeated"
    )
    given = parser.parse_args(arguments)
    return InstanceSettings(
        model=given.model,
        serves=tuple(given.serves),
        curve=Curve(given.base, given.crowding, given.slots),
        host=given.host,
        port=given.port,
        grpc_port=given.grpc_port,
        rtt=dict(given.rtt),
    )
