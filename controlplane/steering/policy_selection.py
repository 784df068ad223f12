"""Which policy decides which row: the service's own, a canary's, or what a fallback says.

Knows names of policies and places of rows; what a policy gives is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.config import PolicyName
from controlplane.steering.decision import Pair
from controlplane.steering.optimiser import Indices
from controlplane.steering.problem import Problem

POLICIES = tuple(PolicyName)
OPTIMAL = POLICIES.index(PolicyName.OPTIMAL)
_CAPACITY = POLICIES.index(PolicyName.CAPACITY)
_REFUTED = "fallback: requests take much longer than predicted"


@dataclass(frozen=True, slots=True)
class Choices:
    """The policies of one cycle, as places in `POLICIES`."""

    code: Indices
    """(rows,): what decides."""
    standing: Indices
    """(rows,): what would decide if there were no canary."""
    policies: dict[Pair, PolicyName]
    """Where another policy than the service's own decides."""
    notes: dict[Pair, str]
    """Why, where it is a fallback."""

    @property
    def canaries(self) -> Indices:
        """Return the rows that are canaries."""
        return np.flatnonzero(self.code != self.standing)


def choose_policies(problem: Problem, *, refuted: bool) -> Choices:
    """Choose for every row; with *refuted* predictions, nothing is left to the model."""
    services = problem.layout.services
    own = np.array([POLICIES.index(service.policy) for service in services], dtype=np.intp)
    standing = own[problem.service_of]
    code = standing.copy()
    policies: dict[Pair, PolicyName] = {}
    for number, service in enumerate(services):
        if service.canary is not None:
            site, policy = service.canary
            policies[number, site] = policy
            for row in np.flatnonzero(problem.service_of == number).tolist():
                if problem.rows[row].site == site:
                    code[row] = POLICIES.index(policy)
    notes: dict[Pair, str] = {}
    if refuted:
        for row in np.flatnonzero(code == OPTIMAL).tolist():
            pair = (problem.rows[row].service, problem.rows[row].site)
            policies[pair] = PolicyName.CAPACITY
            notes[pair] = _REFUTED
        code[code == OPTIMAL] = _CAPACITY
        standing[standing == OPTIMAL] = _CAPACITY
    return Choices(code, standing, policies, notes)
