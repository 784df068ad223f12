"""What a decision costs: processor time of `Steering.decide`, warm, while all loads change.

Each cycle decides: demand moves, and what is inside instances is drawn again.

A machine's speed and its noise are in every figure, so each is also given as a multiple of a fixed
piece of numpy work that is measured right beside it.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # numpy reads it once

import resource
import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.figures import Row, Target, main
from controlplane.config import Config
from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.steering import Steering
from testbed.fakes.views import make_config, make_instance, make_reported, make_service, make_view

TITLE = "Time of a decision, warm (processor time, one core)"

SERVICE_TIME = 0.5
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet to decide for."""

    clients: int
    """Sites with clients and nothing else."""
    instances: int
    services: int
    bound: float | None
    """Milliseconds that a decision may take."""
    cycles: int
    utilisation: float = 0.7

    @property
    def name(self) -> str:
        """Return it in words."""
        return f"{self.clients} clients x {self.instances} instances x {self.services} services"


CASES = (
    Case(30, 13, 1, 12.0, cycles=40),
    Case(100, 100, 5, 60.0, cycles=12),
    Case(1000, 200, 10, 300.0, cycles=8),
    Case(100, 5000, 5, 1000.0, cycles=6),
)


class Scene:
    """A fleet whose load changes slowly, as views."""

    def __init__(self, case: Case, *, seed: int = 1) -> None:
        self.case = case
        rng = np.random.default_rng(seed)
        self.rng = rng
        sites = max(1, case.instances // 2)
        self.clients = [f"client-{number:04d}" for number in range(case.clients)]
        places = [f"site-{number:03d}" for number in range(sites)]
        self.slots = rng.choice([4, 8, 16, 32], case.instances)
        self.names = [f"i-{number:03d}" for number in range(case.instances)]
        self.services = [f"s-{number}" for number in range(case.services)]
        self.config: Config = make_config(
            sites=[*self.clients, *places],
            services=[
                make_service(
                    name,
                    service_time=f"{SERVICE_TIME}s",
                    delay="sensitive" if number % 2 == 0 else "tolerant",
                )
                for number, name in enumerate(self.services)
            ],
            instances=[
                make_instance(name, places[number % sites], slots=int(self.slots[number]))
                for number, name in enumerate(self.names)
            ],
        )
        here, there = rng.uniform(size=(case.clients, 2)), rng.uniform(size=(sites, 2))
        apart = np.linalg.norm(here[:, None] - there[None], axis=2)
        self.rtt = {
            (client, place): 0.004 + 0.05 * float(apart[i, j])
            for i, client in enumerate(self.clients)
            for j, place in enumerate(places)
        }
        size = rng.pareto(1.5, (case.clients, case.services)) + 0.3
        total = case.utilisation * float(self.slots.sum()) / SERVICE_TIME
        self.size = size / size.sum() * total
        self.paths = make_view(self.config, rtt=self.rtt).paths

    def view(self, cycle: int) -> FleetView:
        """Return the fleet at the second *cycle*."""
        at = float(cycle)
        wave = 1.0 + 0.1 * np.sin(0.05 * at + np.arange(self.size.size).reshape(self.size.shape))
        demand = {
            (client, service): float(self.size[i, k] * wave[i, k])
            for i, client in enumerate(self.clients)
            for k, service in enumerate(self.services)
        }
        busy = self.case.utilisation * self.slots
        inside = self.rng.poisson(busy)
        done = self.rng.poisson(busy / SERVICE_TIME)
        shown = {
            name: make_reported(
                self.config,
                name,
                at=at,
                gauges={
                    Signal.RUNNING: float(min(inside[n], self.slots[n])),
                    Signal.WAITING: float(max(inside[n] - self.slots[n], 0)),
                },
                rates={
                    Signal.COMPLETED: float(done[n]),
                    Signal.LATENCY_COUNT: float(done[n]),
                    Signal.LATENCY_SUM: float(done[n]) * SERVICE_TIME * 1.1,
                },
                interval=1.0,
            )
            for n, name in enumerate(self.names)
        }
        made = make_view(self.config, at=at, demand=demand, instances=shown)
        return FleetView(
            at=at,
            config=made.config,
            instances=made.instances,
            paths=self.paths,
            demand=made.demand,
            traffic={},
        )


def reference() -> float:
    """Return the processor time of a fixed piece of numpy work, seconds."""
    values = np.linspace(0.1, 1.0, 100_000)
    began = time.process_time()
    for _ in range(20):
        np.exp(values * values).sum()
    return time.process_time() - began


def measure(case: Case, *, cycles: int) -> Row:
    """Decide *cycles* times; a third of them are the warm-up."""
    scene = Scene(case)
    steering = Steering(scene.config)
    taken: list[float] = []
    gaps: list[float] = []
    yard: list[float] = []
    for cycle in range(cycles):
        view = scene.view(cycle)
        began = time.process_time()
        plan = steering.decide(view)
        taken.append(time.process_time() - began)
        gaps.append(plan.gap)
        yard.append(reference())
    warm = taken[cycles // 3 :]
    middle = median(warm)
    figures = {
        "first ms": 1e3 * taken[0],
        "median ms": 1e3 * middle,
        "worst ms": 1e3 * max(warm),
        "median / reference": middle / median(yard),
        "gap %": 100 * max(gaps[cycles // 3 :]),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    targets = [Target("gap %", 0.5)]
    if case.bound is not None:
        targets.append(Target("median ms", case.bound))
    if case.instances >= 5000:
        targets.append(Target("memory MB", 400.0))
    return Row(case.name, figures, tuple(targets))


def run_all(*, quick: bool) -> list[Row]:
    """Measure every case."""
    return [measure(case, cycles=6 if quick else case.cycles) for case in CASES]


if __name__ == "__main__":
    main(TITLE, run_all)
