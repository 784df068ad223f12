"""The decision of one cycle, and what is remembered between cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from controlplane.config import Config, Delay, Mode, PolicyName
from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.steering.belief import Belief
from controlplane.steering.capacity import CapacityLearner
from controlplane.steering.choice import OPTIMAL, POLICIES, Choices, choose_policies
from controlplane.steering.demand import DemandFilter
from controlplane.steering.explain import (
    Decision,
    Weights,
    barred_entries,
    build_assignment,
    build_bare_assignment,
    row_spans,
    weigh_inside,
)
from controlplane.steering.foresight import Foresight, hedge, mix_prices
from controlplane.steering.in_use import InUse, Key, probes_of, same_entries
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.layout import Layout, build_layout
from controlplane.steering.optimiser import Bounds, Flags, Flow, solve
from controlplane.steering.plan import Assignment, Plan
from controlplane.steering.policies import RULES
from controlplane.steering.probing import probe
from controlplane.steering.problem import Network, Problem, build_network, build_problem
from controlplane.steering.shedding import Shedding
from controlplane.steering.stability import Hysteresis, Refutation, settle
from controlplane.steering.transient import price_period
from controlplane.steering.weights import LEAST_SHARE, round_rows

_EXPLAINED = 20_000
"""Entries up to which every share of a plan carries its terms; beyond, ask `Steering.explain`."""


class Steering:
    """Decides, once a period, what share of every service each instance gets.

    Pure: the time is the view's, and equal views in equal order give equal plans.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layout: Layout | None = None
        self._network: Network | None = None
        self._demand = DemandFilter(config.steering.period)
        self._capacity = CapacityLearner()
        self._plan: Plan | None = None
        self._in_use = InUse()
        self._rest: tuple[Problem, Array] | None = None
        self._decision: Decision | None = None
        self._heard = -np.inf
        self._hysteresis = Hysteresis()
        self._renewed = False
        """Whether an operator changed something since the last decision: then nothing is held."""
        self._refutation = Refutation()
        self._foresight = Foresight()
        self._shedding = Shedding()

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration; what was learned of instances that stay is kept."""
        self._renewed = self._renewed or _changed(self._config, config)
        self._config = config
        self._layout = None

    def restore(self, plan: Plan) -> None:
        """Go on from a plan of an earlier run: its shares stay until something better is known."""
        self._plan = plan
        self._in_use.restore(plan)

    def memory(self, *, now: float) -> dict[str, Any]:
        """Give what was learned of instances and demand as a JSON-ready document."""
        return {
            "capacity": self._capacity.memory(now=now),
            "demand": self._demand.memory(now=now),
        }

    def remember(self, memory: Mapping[str, Any], *, now: float) -> None:
        """Go on from what `memory` gave in another process, at *now* of this one's clock.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        self._capacity.remember(memory["capacity"], now=now)
        self._demand.remember(memory["demand"], now=now)

    def decide(self, view: FleetView) -> Plan:
        """Give the plan for the coming period."""
        latest = _latest(view)
        heard = latest > self._heard
        self._heard = max(latest, self._heard)
        # Reports that are late are not silence: what they say still moves on.
        if view.frozen and not heard and self._plan is not None:
            return self._freeze(view, self._plan)
        layout = self._lay_out(view)
        if self._network is None or self._network.paths is not view.paths:
            self._network = build_network(layout, view.paths, former=self._network)
        beliefs = self._capacity.observe(view, layout, unrest=self._foresight.unrest)
        demand = self._measure_demand(view, layout, beliefs)
        problem = build_problem(
            view,
            layout,
            self._network,
            beliefs=beliefs,
            demand=demand,
            sizes=np.array([service.size for service in layout.services]),
        )
        decision = self._decide(view, problem, beliefs)
        watching = self._config.steering.mode is Mode.OBSERVE
        pushed = self._observe(decision) if watching else decision
        same = None if watching else self._unchanged(decision)
        # What is foretold is what is pushed, whatever would be better.
        self._decision = pushed
        plan = self._build(decision, pushed, same)
        self._plan = plan
        return plan

    def explain(self, service: str, client_site: str) -> Assignment | None:
        """Give one assignment of the last plan with every term of every share."""
        decision = self._decision
        if decision is None:
            return None
        for span in row_spans(decision):
            layout = decision.problem.layout
            if (layout.services[span.row.service].service.name, layout.sites[span.row.site]) == (
                service,
                client_site,
            ):
                former = self._former().get((service, client_site))
                return build_assignment(decision, span, former=former, whys=True)
        return None if self._plan is None else self._plan.assignments.get((service, client_site))

    def explain_all(self) -> Mapping[Key, Assignment]:
        """Return the assignments of the last plan, each with every term of every share."""
        if self._decision is None or self._plan is None:
            return {}
        made, former = dict(self._plan.assignments), self._former()
        layout = self._decision.problem.layout
        for span in row_spans(self._decision):
            key = (layout.services[span.row.service].service.name, layout.sites[span.row.site])
            made[key] = build_assignment(self._decision, span, former=former.get(key), whys=True)
        return made

    def _lay_out(self, view: FleetView) -> Layout:
        instances = tuple(shown.instance for shown in view.instances.values())
        layout = self._layout
        if layout is None or layout.instances != instances or layout.config is not view.config:
            layout = build_layout(view.config, instances)
            self._layout = layout
            self._network = None
            self._rest = None
        return layout

    def _measure_demand(self, view: FleetView, layout: Layout, beliefs: list[Belief]) -> Array:
        self._demand.observe({**view.demand, **view.counted}, now=view.at)
        names = {service.service.name for service in layout.services}
        counted = [r.value for (_, service), r in view.counted.items() if service in names]
        demand = self._demand.fill(
            tuple(service.service.name for service in layout.services),
            layout.sites,
            clients=view.clients,
            completions=float(_completed(view, layout).sum()),
            capacity=sum(belief.capacity for belief in beliefs),
        )
        self._foresight.observe(
            sum(counted) if counted else None,
            float(demand.sum()),
            period=self._config.steering.period,
        )
        return demand

    def _decide(self, view: FleetView, problem: Problem, beliefs: list[Belief]) -> Decision:
        previous = self._in_use.shares(problem)
        self._shed(view, problem, previous)
        problem = replace(problem, flow=self._shedding.admit(problem.flow, problem.service_of))
        flow = problem.flow
        drops = self._shedding.drops
        known = previous.sum() > 0
        inflow = flow.load(previous) if known else flow.base
        shares = previous.copy()
        choices = choose_policies(
            problem,
            refuted=self._refutation.observe(
                self._predicted(), view, standing=_standing_latency(problem)
            ),
        )
        code = choices.code[flow.row]
        optimal = code == OPTIMAL
        for number in np.unique(code[~optimal]).tolist():
            mine = code == number
            ruled = RULES[POLICIES[number]](problem, inflow)
            if not self._renewed:
                ruled = settle(flow, used=previous, new=ruled)
            shares[mine] = ruled[mine]
        cases = self._foresight.cases()
        prices = mix_prices(PriceTable.stationary(problem.curves), cases)
        if optimal.any():
            part = _restrict(flow, optimal, shares)
            tolerance = 1e-4 if len(flow.row) < _EXPLAINED else 1e-3
            rest = self._rest_start(problem, optimal)
            long_run = solve(part, prices, start=rest, tolerance=tolerance, most_iterations=60)
            self._rest = (problem, _spread(flow, optimal, long_run.shares))
            planned = part.load(long_run.shares)
            prices = price_period(
                problem.curves,
                number=problem.number,
                age=problem.age,
                inflow=inflow if known else planned,
                planned=planned,
                pace=problem.pace,
                period=self._config.steering.period,
            )
            prices = mix_prices(prices, cases)
            best = solve(
                part, prices, start=long_run.shares, tolerance=tolerance, most_iterations=60
            )
            shares[optimal] = best.shares
            hedged = hedge(problem, shares, prices, unrest=self._foresight.unrest)
            shares[optimal] = hedged[optimal]
        notes = dict(choices.notes)
        for row in problem.rows if drops else ():
            if refused := drops.get(row.service):
                notes[row.service, row.site] = (
                    f"overload: {refused:.0%} of the requests are refused, so that the instances, "
                    f"which are full, serve the others in time"
                )
        choice = self._hysteresis.choose(
            flow,
            prices,
            # What a rule or an operator's hand decides is not weighed against its cost.
            used=np.where(optimal, previous, shares),
            new=shares,
            min_gain=-np.inf if self._renewed else self._config.steering.min_gain,
        )
        self._renewed = False
        shares = choice.shares
        former = self._in_use.probes(problem)
        probed = probe(
            flow,
            prices,
            beliefs=beliefs,
            shares=shares,
            former=former,
            allowed=optimal & ~flow.limited,
            most=self._config.steering.probe_share,
            held=choice.held,
        )
        if probed.any():
            given = np.bincount(flow.row, probed, len(flow.demand))
            shares = shares * (1.0 - given)[flow.row] + probed
        load = flow.load(shares)
        price = prices.evaluate(load)[1]
        standing = self._stand(problem, choices, shares, load, prices)
        return Decision(
            view=view,
            problem=problem,
            beliefs=beliefs,
            shares=shares,
            weights=self._weigh(problem, shares),
            previous=previous,
            standing=standing,
            load=load,
            prices=prices,
            price=price,
            marginal=flow.marginal(price),
            sustained=problem.sustained,
            barred=barred_entries(problem),
            inside=weigh_inside(problem, problem.curves.number(load), load),
            cost=flow.cost(shares, prices),
            policies=choices.policies,
            drops=drops,
            notes=notes,
            held=choice.held
            and np.array_equal(choice.shares, previous)
            and np.array_equal(probed, former),
            gain=0.0 if choice.held else choice.gain,
            probed=probed,
        )

    def _stand(
        self, problem: Problem, choices: Choices, shares: Array, load: Array, prices: PriceTable
    ) -> Array | None:
        """Give *shares* with those of canaries as their services' standing policies would have."""
        rows = choices.canaries
        if not len(rows) or self._config.steering.mode is Mode.OBSERVE:
            return None
        flow = problem.flow
        standing = shares.copy()
        canary = np.isin(flow.row, rows)
        code = choices.standing[flow.row]
        for number in np.unique(code[canary]).tolist():
            mine = canary & (code == number)
            if number != OPTIMAL:
                standing[mine] = RULES[POLICIES[number]](problem, load)[mine]
            else:
                part = _restrict(flow, mine, shares)
                standing[mine] = solve(part, prices, tolerance=1e-4, most_iterations=60).shares
        return standing

    def _weigh(self, problem: Problem, shares: Array) -> Weights:
        """Give the integers that Envoys get for *shares*."""
        return round_rows(
            shares,
            problem.flow.starts,
            problem.layout.rank[problem.flow.column],
            total=self._config.steering.weight_sum,
        )

    def _shed(self, view: FleetView, problem: Problem, used: Array) -> None:
        """Decide what is refused of the whole demand, which *used* shares have split so far."""
        services = problem.layout.services
        may = self._config.steering.shed_tolerant and self._config.steering.mode is Mode.STEER
        self._shedding.observe(
            problem.layout.pools,
            np.bincount(problem.service_of, problem.flow.demand, len(services)).astype(np.float64),
            np.array([may and each.service.delay is Delay.TOLERANT for each in services]),
            # What instances that tell nothing are sent, they are taken to complete.
            completed=np.where(
                np.isnan(problem.number),
                self._sent(problem, used),
                _completed(view, problem.layout),
            ),
            number=problem.number,
            slots=problem.curves.slots,
        )

    def _sent(self, problem: Problem, used: Array) -> Array:
        """Give the requests a second that each instance is sent by the shares in use."""
        flow = self._shedding.admit(problem.flow, problem.service_of)
        rates = flow.demand[flow.row] * used
        return np.bincount(flow.column, rates, len(problem.layout.instances)).astype(np.float64)

    def _former(self) -> Mapping[Key, Assignment]:
        """Give the last assignments that were decided, pushed or not."""
        if self._plan is None:
            return {}
        return self._plan.proposed or self._plan.assignments

    def _rest_start(self, problem: Problem, optimal: Array) -> Array | None:
        """Give the last long-run shares as a start, if the entries are still the same."""
        if self._rest is None:
            return None
        last, shares = self._rest
        return shares[optimal] if same_entries(last, problem) else None

    def _predicted(self) -> float | None:
        """Give the mean latency that was foretold for now, seconds."""
        decision = self._decision
        if decision is None or not len(decision.shares):
            return None
        flow, problem = decision.problem.flow, decision.problem
        rate = flow.demand[flow.row] * decision.shares
        inside = flow.work * decision.inside[flow.column]
        return float(np.dot(rate, problem.rtt + problem.transfer + inside) / rate.sum())

    def _unchanged(self, decision: Decision) -> Flags | None:
        """Tell the rows that go on as they are, (rows,), where no terms are told."""
        last = self._decision
        if last is None or self._plan is None or len(decision.shares) <= _EXPLAINED:
            return None
        problem = decision.problem
        if not same_entries(last.problem, problem):
            return None
        flow = problem.flow
        kept = np.where(decision.shares >= LEAST_SHARE, decision.shares, 0.0)
        kept /= np.maximum(np.add.reduceat(kept, flow.starts), LEAST_SHARE)[flow.row]
        # Half a unit of weight is what rounding takes away anyway.
        still = np.abs(kept - decision.previous) <= 0.5 / self._config.steering.weight_sum
        still &= decision.probed == self._in_use.probes(problem)
        same: Flags = np.logical_and.reduceat(still, flow.starts)
        return same

    def _build(self, decision: Decision, pushed: Decision, same: Flags | None) -> Plan:
        former = self._former()
        assignments = _assign(decision, same, former)
        proposed: dict[Key, Assignment] = {}
        if pushed is not decision:
            proposed = assignments
            assignments = _assign(pushed, None, former)
        probes = probes_of(pushed)
        self._in_use.take(pushed, assignments, probes, same=same)
        return Plan(
            version=hash_assignments(assignments),
            at=decision.view.at,
            assignments=assignments,
            proposed=proposed,
            standing=self._build_standing(decision),
            probes=probes,
            predicted_cost=pushed.cost,
            held=decision.held,
            gain=decision.gain,
            predicted_latency=self._predicted(),
            prediction_error=self._refutation.error,
            prediction_miss=self._refutation.miss,
            fallbacks=self._refutation.count,
            reversals=self._hysteresis.reversals,
            oscillating=self._hysteresis.oscillating,
        )

    def _observe(self, decision: Decision) -> Decision:
        """Give the static split of the same problem, which is pushed while operators only watch."""
        problem = decision.problem
        shares = RULES[PolicyName.STATIC](problem, decision.load)
        pairs = [(row.service, row.site) for row in (*problem.rows, *problem.empty)]
        watching = "observe mode: the decided shares are proposed, not pushed"
        return replace(
            decision.under(shares, self._weigh(problem, shares)),
            policies=dict.fromkeys(pairs, PolicyName.STATIC),
            notes=dict.fromkeys(pairs, watching),
        )

    def _build_standing(self, decision: Decision) -> dict[Key, Assignment]:
        """Give what would be pushed in the place of each canary."""
        if decision.standing is None:
            return {}
        problem = decision.problem
        weights = self._weigh(problem, decision.standing)
        other = replace(decision.under(decision.standing, weights), policies={}, notes={})
        made = [
            build_assignment(other, span, former=None, whys=True)
            for span in row_spans(other)
            if other.standing_of(span.row) is not None
        ]
        return {(each.service, each.client_site): each for each in made}

    def _freeze(self, view: FleetView, plan: Plan) -> Plan:
        note = "frozen: every instance that ever reported is silent"
        return replace(
            plan,
            at=view.at,
            held=True,
            assignments={
                key: replace(assignment, note=note) for key, assignment in plan.assignments.items()
            },
        )


def _changed(old: Config, new: Config) -> bool:
    """Tell whether more has changed than which instances there are.

    Those that come and go, as discovered ones do all the time, are seen by what is in use.
    """
    known = {instance.name: instance for instance in old.instances}
    bare = {"instances": ()}
    return old.model_copy(update=bare) != new.model_copy(update=bare) or any(
        known.get(instance.name, instance) != instance for instance in new.instances
    )


def _completed(view: FleetView, layout: Layout) -> Array:
    """Give the requests a second that each instance completes; 0 where nobody says."""
    rates = (view.instances[each.name].rates.get(Signal.COMPLETED) for each in layout.instances)
    return np.array([0.0 if rate is None else rate.value for rate in rates])


def _latest(view: FleetView) -> float:
    """Give when the newest of all readings of instances was measured."""
    times = (r.at for shown in view.instances.values() for r in shown.readings.values())
    return max((at for at in times if at is not None), default=-np.inf)


def hash_assignments(assignments: Mapping[Key, Assignment]) -> str:
    """Give the version of what goes to Envoys: instances, weights and priorities, no more."""
    digest = sha256()
    for key in sorted(assignments):
        assignment = assignments[key]
        lines = [f"{key[0]}\0{key[1]}"]
        if assignment.drop > 0:
            lines.append(f"{assignment.drop}")
        lines += [f"{a.instance}\0{a.weight}\0{a.priority}" for a in assignment.allocations]
        digest.update(("\n".join(lines) + "\n").encode())
    return digest.hexdigest()[:16]


def _assign(
    decision: Decision, same: Flags | None, former: Mapping[Key, Assignment]
) -> dict[Key, Assignment]:
    """Make all assignments; rows that are the *same* keep the allocations of *former*."""
    whys = len(decision.shares) <= _EXPLAINED
    layout = decision.problem.layout
    made: dict[Key, Assignment] = {}
    stays = [False] * len(decision.problem.rows) if same is None else same.tolist()
    for span, still in zip(row_spans(decision), stays, strict=True):
        service = layout.services[span.row.service]
        key = (service.service.name, layout.sites[span.row.site])
        kept = former.get(key) if still else None
        if kept is None:
            made[key] = build_assignment(decision, span, former=former.get(key), whys=whys)
            continue
        made[key] = Assignment(
            service=key[0],
            client_site=key[1],
            policy=decision.policy_of(span.row),
            allocations=kept.allocations,
            demand=span.demand,
            note=decision.note_of(span.row),
            drop=decision.drops.get(span.row.service, 0.0),
            standing=decision.standing_of(span.row),
        )
    for row in decision.problem.empty:
        bare = build_bare_assignment(decision, row)
        made[bare.service, bare.client_site] = bare
    return made


def _restrict(flow: Flow, kept: Array, shares: Array) -> Flow:
    """Give the part of *flow* that is decided; the rest becomes base work of the instances."""
    if kept.all():
        return flow
    rows = np.unique(flow.row[kept])
    renumber = np.zeros(len(flow.demand), dtype=np.intp)
    renumber[rows] = np.arange(len(rows))
    place = np.cumsum(kept) - 1
    inside = kept[flow.bounds.entry] if len(flow.bounds.entry) else np.zeros(0, dtype=bool)
    groups, group = np.unique(flow.bounds.group[inside], return_inverse=True)
    return replace(
        flow,
        demand=flow.demand[rows],
        row=renumber[flow.row[kept]],
        column=flow.column[kept],
        linear=flow.linear[kept],
        work=flow.work[kept],
        base=flow.load(np.where(kept, 0.0, shares)),
        bounds=Bounds(
            place[flow.bounds.entry[inside]],
            group,
            flow.bounds.low[groups],
            flow.bounds.high[groups],
        ),
    )


def _standing_latency(problem: Problem) -> float:
    """Give the mean latency that the requests known to be inside amount to, seconds."""
    demand = float(problem.flow.demand.sum())
    return float(np.nansum(problem.number)) / demand if demand > 0 else 0.0


def _spread(flow: Flow, kept: Array, shares: Array) -> Array:
    whole = np.zeros(len(flow.row))
    whole[kept] = shares
    return whole
