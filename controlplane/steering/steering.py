"""The decision of one cycle, and what is remembered between cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from controlplane.config import Config, Delay, Mode, PolicyName
from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.steering.adapters import AdapterPlacement
from controlplane.steering.alike import even_out
from controlplane.steering.assignment_sums import Noted
from controlplane.steering.assignments import Assignments
from controlplane.steering.burst_hedging import DemandErrors, hedge, mix_prices
from controlplane.steering.capacity import CapacityLearner
from controlplane.steering.classes import join_classes
from controlplane.steering.cold_starts import ColdStarts
from controlplane.steering.current_shares import CurrentShares, probes_of
from controlplane.steering.decision import Decision, Pair, Weights, weigh_inside
from controlplane.steering.demand import DemandFilter
from controlplane.steering.devices import shares_of_charged
from controlplane.steering.estimate import Estimate
from controlplane.steering.failures import FailureLearner
from controlplane.steering.fallbacks import Fallbacks
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.layout import Key, Layout, build_layout
from controlplane.steering.model_monitor import ModelMonitor
from controlplane.steering.optimiser import Flags, Flow, solve
from controlplane.steering.optimum import Optimiser, Optimum
from controlplane.steering.optimum_blocks import Rows
from controlplane.steering.plan import Assignment, Plan
from controlplane.steering.policies import apply_rule
from controlplane.steering.policy_selection import OPTIMAL, POLICIES, Choices, choose_policies
from controlplane.steering.pricing import restrict
from controlplane.steering.probing import probe
from controlplane.steering.problem import DOUBTED, Network, Picture, Problem, build_network, picture
from controlplane.steering.promise_keeping import PromiseKeeper, Rest
from controlplane.steering.reconfiguration import changes_settings, only_adds_overrides
from controlplane.steering.scaling import ScalingBasis, scaling_groups
from controlplane.steering.sessions import SessionKeeper
from controlplane.steering.shedding import Shedding
from controlplane.steering.silence import Silence
from controlplane.steering.spending import predict_spending
from controlplane.steering.stability import Choice, Hysteresis, forced_rows, settle, unavoidable
from controlplane.steering.tail_price import price_tail, toll_of
from controlplane.steering.transient import price_period
from controlplane.steering.weights import round_rows
from controlplane.steering.withdrawal import kept_under

_PROBE_AGAIN = 12.0
"""Seconds after which a probe alone is worth a push."""


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
        self._kept: tuple[Plan, Config, Plan | None] | None = None
        """The plan, a configuration, and what is kept of the plan under it while all is silent."""
        self._current = CurrentShares()
        self._optimiser = Optimiser()
        self._fallbacks = Fallbacks()
        self._decision: Decision | None = None
        self._silence = Silence()
        self._hysteresis = Hysteresis()
        self._renewed = False
        """Whether an operator changed something since the last decision: then nothing is held."""
        self._imposed = False
        """Whether overrides were added since the last decision: what they forbid moves, nothing
        else."""
        self._monitor = ModelMonitor()
        self._failures = FailureLearner()
        self._adapters = AdapterPlacement()
        self._returning: set[str] = set()
        """Instances that answer again and are not trusted in full yet."""
        self._demand_errors = DemandErrors()
        self._shedding = Shedding()
        self._promises = PromiseKeeper()
        self._sessions = SessionKeeper()
        self._scaling = ScalingBasis()
        self._cold_starts = ColdStarts()
        self._probed_at: float | None = None
        """When another instance was last probed, or one no longer; at first, the first decision:
        a restart moves nothing."""

    def reconfigure(self, config: Config) -> None:
        """Receive a new configuration; what was learned of instances that stay is kept."""
        imposed = only_adds_overrides(self._config, config)
        self._imposed = self._imposed or imposed
        self._renewed = self._renewed or (not imposed and changes_settings(self._config, config))
        self._config = config
        self._layout = None

    def restore(self, plan: Plan) -> None:
        """Continue from an earlier run's plan: its shares stay until something better is known."""
        self._continue(plan)
        self._silence.resume()

    def follow(self, plan: Plan, *, now: float) -> None:
        """Continue from the plan of another process, which decides in this one's place."""
        self._continue(plan)
        self._hysteresis.follow(plan.version, now=now)

    def _continue(self, plan: Plan) -> None:
        self._plan = plan
        self._current.restore(plan)
        self._hysteresis.resume()

    def memory(self, *, now: float) -> dict[str, Any]:
        """Return what was learned of instances and demand as a JSON-ready document."""
        return {
            "capacity": self._capacity.memory(now=now),
            "demand": self._demand.memory(now=now),
            "sizes": self._capacity.size_learner.memory(),
        }

    def remember(self, memory: Mapping[str, Any], *, now: float) -> tuple[str, ...]:
        """Continue from what `memory` gave in another process, at *now* of this one's clock.

        Returns:
            What of it could not be read; the rest was taken.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        unread = self._capacity.remember(memory["capacity"], now=now)
        try:
            self._demand.remember(memory["demand"], now=now)
        except (ValueError, KeyError, TypeError) as error:
            unread = (*unread, f"demand: {error!r}")
        # Earlier versions kept none.
        if "sizes" in memory:
            try:
                self._capacity.size_learner.remember(memory["sizes"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unread = (*unread, f"sizes: {error!r}")
        return unread

    def decide(self, view: FleetView) -> Plan:
        """Return the plan for the coming period."""
        silence = self._silence.observe(view)
        if silence and self._plan is not None:
            kept = self._keep(self._plan, view.config)
            if kept is not None:
                noted = Noted(kept.assignments, silence)
                return replace(kept, at=view.at, held=True, assignments=noted)
        layout = self._lay_out(view)
        if self._network is None or self._network.paths is not view.paths:
            self._network = build_network(layout, view.paths)
        self._promises.learn(view)
        failures = self._failures.observe(view, layout)
        self._capacity.forget(self._failures.recovered)
        self._take_back(view)
        learned = self._capacity.observe(view, layout, burstiness=self._demand_errors.burstiness)
        estimates = even_out(learned, layout)
        demand = self._measure_demand(view, layout, estimates)
        loading = self._adapters.observe(
            view,
            layout,
            self._network,
            demand=demand,
            # As configured: what was learned has loadings in it, and homes should stay.
            capacity=layout.slots / layout.pace,
        )
        self._renewed = self._renewed or self._adapters.moved
        made = picture(
            view,
            layout,
            self._network,
            estimates=estimates,
            demand=demand,
            sizes=self._capacity.sizes,
            failures=failures,
            loading=loading,
        )
        decision = self._decide(view, made)
        decision = replace(decision, starts=self._cold_starts.consider(decision))
        watching = self._config.steering.mode is Mode.OBSERVE
        pushed = self._observe(decision) if watching else decision
        # What is predicted is what is pushed, whatever would be better.
        self._decision = pushed
        plan = self._build(decision, pushed)
        self._plan = plan
        return plan

    def explain(self, service: str, client_site: str) -> Assignment | None:
        """Return one assignment of the last plan with every term of every share."""
        return None if self._plan is None else self._plan.assignments.get((service, client_site))

    def explain_all(self) -> Mapping[Key, Assignment]:
        """Return the assignments of the last plan, each with every term of every share."""
        return {} if self._plan is None else self._plan.assignments

    def _take_back(self, view: FleetView) -> None:
        """Let what answers again have its share, and again once it is trusted in full."""
        recovered = self._failures.recovered
        doubted = {
            name
            for name in self._returning | recovered
            if name in view.instances and view.instances[name].trust < DOUBTED
        }
        # However little that gains.
        self._renewed = self._renewed or bool(recovered or self._returning - doubted)
        self._returning = doubted

    def _lay_out(self, view: FleetView) -> Layout:
        instances = tuple(shown.instance for shown in view.instances.values())
        layout = self._layout
        if layout is None or layout.instances != instances or layout.config is not view.config:
            layout = build_layout(view.config, instances)
            self._layout = layout
            self._network = None
        return layout

    def _measure_demand(self, view: FleetView, layout: Layout, estimates: list[Estimate]) -> Array:
        self._demand.observe({**view.demand, **view.counted}, clients=view.clients, now=view.at)
        names = {service.service.name for service in layout.services}
        counted = [r.value for (_, service), r in view.counted.items() if service in names]
        demand = self._demand.fill(
            tuple(service.service.name for service in layout.services),
            layout.sites,
            clients=view.clients,
            completions=float(_completed(view, layout).sum()),
            capacity=sum(estimate.capacity for estimate in estimates),
        )
        self._demand_errors.observe(
            sum(counted) if counted else None,
            float(demand.sum()),
            period=self._config.steering.period,
        )
        return demand

    def _decide(self, view: FleetView, made: Picture) -> Decision:
        """Return what is decided; each stage is a method or a module of its own.

        Long, so that all stages are read in one place.
        """
        whole = _wants_every_pair(made)
        current = self._current.codes(made.layout)
        problem = self._optimiser.start(made, whole=whole, current=current)
        previous = self._current.shares(problem)
        self._shed(view, problem, previous)
        if self._shedding.parts.any():
            made = self._admit(made)
            problem = made.problem(problem.codes)
        choices = choose_policies(
            problem,
            refuted=self._monitor.observe(
                self._predicted(), view, standing=_standing_latency(made)
            ),
        )
        shares = self._apply_rules(problem, choices, previous)
        prices = mix_prices(PriceTable.stationary(problem.curves), self._demand_errors.cases())
        prices = prices.tilted()
        optimum = Optimum(problem, shares, 0.0)
        toll = surcharged = np.zeros(len(problem.pace))
        if (choices.code == OPTIMAL).any():
            rows = Rows(choices.code == OPTIMAL, self._live(view, made))
            prices, (toll, surcharged), optimum = self._optimise(
                made, problem, rows, shares, prices
            )
        problem, shares = optimum.problem, optimum.shares
        flow = problem.flow
        previous = self._current.shares(problem)
        optimal = choices.code[flow.row] == OPTIMAL
        shares = join_classes(problem, prices, shares, allowed=optimal & ~flow.limited)
        forced = self._forced(flow, previous)
        kept = self._sessions.keep(
            view,
            problem,
            prices,
            used=previous,
            new=shares,
            free=~optimal | forced | self._renewed,
            rested=self._hysteresis.rested(view.at),
        )
        choice = self._hysteresis.choose(
            flow,
            prices,
            # What a rule or an operator's hand decides is not weighed against its cost.
            used=np.where(optimal & ~forced, previous, kept.shares),
            new=kept.shares,
            toll=kept.toll,
            common=unavoidable(flow, problem.charges + flow.work * surcharged[flow.column]),
            now=view.at,
            min_gain=-np.inf if self._renewed else self._config.steering.min_gain,
        )
        self._renewed = self._imposed = False
        former = self._current.probes(problem)
        probed = self._probe(
            made,
            problem,
            # What was slow is expensive by the tail it had: that is what is in question.
            prices.raised(-toll),
            choice,
            optimal & ~flow.limited,
        )
        shares = _with_probes(flow, choice.shares, probed)
        load = flow.load(shares)
        return Decision(
            view=view,
            problem=problem,
            estimates=made.estimates,
            sizes=self._capacity.sizes,
            shares=shares,
            weights=self._weigh(problem, shares),
            previous=previous,
            standing=self._stand(problem, choices, shares, load, prices),
            load=load,
            prices=prices,
            price=prices.evaluate(load)[1],
            inside=weigh_inside(problem, load),
            cost=flow.cost(shares, prices),
            gap=optimum.gap,
            policies=choices.policies,
            drops=self._shedding.drops,
            notes=dict(choices.notes) | _overload_notes(problem, self._shedding.drops),
            held=choice.held
            and np.array_equal(choice.shares, previous)
            and np.array_equal(probed, former),
            gain=0.0 if choice.held else choice.gain,
            probed=probed,
            losses=kept.losses,
            least_gain=kept.least_gain,
        )

    def _probe(
        self, made: Picture, problem: Problem, prices: PriceTable, choice: Choice, allowed: Flags
    ) -> Array:
        """Return the part of its row's requests that each entry gets to be asked, (entries,)."""
        former = self._current.probes(problem)
        probed_at = made.at if self._probed_at is None else self._probed_at
        self._probed_at = probed_at
        probed = probe(
            problem.flow,
            prices,
            estimates=made.estimates,
            failure=problem.weight * problem.failure,
            shares=choice.shares,
            former=former,
            allowed=allowed,
            most=self._config.steering.probe_share,
            # A calm fleet is pushed seldom; what may be better is asked all the same.
            held=choice.held and made.at - probed_at < _PROBE_AGAIN,
        )
        if not np.array_equal(probed > 0, former > 0):
            self._probed_at = made.at
        return probed

    def _apply_rules(self, problem: Problem, choices: Choices, previous: Array) -> Array:
        """Return *previous* with the shares of the rows that rules decide, (entries,)."""
        flow = problem.flow
        inflow = flow.load(previous) if previous.sum() > 0 else flow.base
        shares = previous.copy()
        code = choices.code[flow.row]
        for number in np.unique(code[code != OPTIMAL]).tolist():
            mine = code == number
            ruled = apply_rule(POLICIES[number], problem, inflow)
            if not self._renewed:
                stay = np.where(self._forced(flow, previous), 0.0, previous)
                ruled = settle(flow, used=stay, new=ruled)
            shares[mine] = ruled[mine]
        return shares

    def _forced(self, flow: Flow, previous: Array) -> Flags:
        """Report the entries of rows that overrides added since the last decision move."""
        if not self._imposed or not len(previous):
            return np.zeros(len(previous), dtype=bool)
        return forced_rows(flow, previous)[flow.row]

    def _optimise(
        self, made: Picture, problem: Problem, rows: Rows, shares: Array, long_run: PriceTable
    ) -> tuple[PriceTable, tuple[Array, Array], Optimum]:
        """Return the prices of the coming period and the optimum under them, hedged.

        Between them, the parts of the prices that the tail and promises add, (instances,).
        """
        previous = self._current.shares(problem)
        tail = price_tail(
            problem.curves,
            problem.pace,
            problem.flow.load(previous),
            pool_of=made.layout.pool_of,
            burstiness=self._demand_errors.burstiness,
        )
        long_run = PriceTable.of(long_run.capacity, long_run.price + tail)

        def settle(some: Picture, entries: Problem, costs: PriceTable) -> Rest:
            return Rest(*self._optimiser.settle(some, entries, costs, rows=rows, shares=shares))

        kept = self._promises.keep(made, problem, long_run, settle=settle, used=previous)
        made, problem = kept.charged.made, kept.problem
        planned, start = kept.rest.load, kept.rest.shares
        prices = price_period(
            problem.curves,
            number=problem.number,
            age=problem.age,
            inflow=problem.flow.load(previous) if previous.sum() > 0 else planned,
            planned=planned,
            pace=problem.pace,
            period=self._hysteresis.lifetime(
                made.at,
                self._config.steering.period,
                load=_fullness(problem, planned),
            ),
        )
        prices = mix_prices(prices, self._demand_errors.cases()).tilted()
        toll = toll_of(tail, planned, problem.curves.capacity)
        prices = prices.raised(toll)
        prices = kept.charged.toll(prices, long_run, planned)
        surcharged = kept.charged.surcharged(long_run, planned)
        # Of shares that are equally good, a start from even ones finds the most even.
        start = None if self._hysteresis.settled(made.at) >= 1.0 else start
        best = self._optimiser.decide(made, problem, prices, rows=rows, shares=shares, start=start)
        hedged = hedge(best.problem, best.shares, prices, burstiness=self._demand_errors.burstiness)
        decided = rows.optimal[best.problem.flow.row]
        hedged = np.where(decided, hedged, best.shares)
        return prices, (toll, surcharged), replace(best, shares=hedged)

    def _stand(
        self, problem: Problem, choices: Choices, shares: Array, load: Array, prices: PriceTable
    ) -> Array | None:
        """Return *shares* with those of canaries as their services' baseline policies set them."""
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
                standing[mine] = apply_rule(POLICIES[number], problem, load)[mine]
            else:
                part = restrict(flow, mine, shares)
                standing[mine] = solve(part, prices, tolerance=1e-4, most_iterations=60).shares
        return standing

    def _weigh(self, problem: Problem, shares: Array) -> Weights:
        """Return the integers that Envoys get for *shares*."""
        return round_rows(
            shares_of_charged(problem, shares),
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
            # What instances that say nothing are sent, they are taken to complete.
            completed=np.where(
                np.isnan(problem.number),
                self._sent(problem, used),
                _completed(view, problem.layout),
            ),
            number=problem.number,
            slots=problem.curves.slots,
        )

    def _admit(self, made: Picture) -> Picture:
        """Return the same fleet without the demand that is refused."""
        kept = self._shedding.admitted
        pairs = made.pairs
        services = tuple(
            replace(service, demand=service.demand * kept[number])
            for service, number in zip(pairs.services, pairs.numbers.tolist(), strict=True)
        )
        return replace(made, pairs=replace(pairs, services=services))

    def _sent(self, problem: Problem, used: Array) -> Array:
        """Return the requests a second that each instance is sent by the shares in use."""
        flow = self._shedding.admit(problem.flow, problem.service_of)
        rates = flow.demand[flow.row] * used
        return np.bincount(flow.column, rates, len(problem.layout.instances)).astype(np.float64)

    def _live(self, view: FleetView, made: Picture) -> Flags:
        """Report the rows with clients, (rows,); all, where clients are not known."""
        sites = made.layout.sites
        live = np.zeros((len(made.pairs.services), len(sites)), dtype=bool)
        site = {name: place for place, name in enumerate(sites)}
        for name in view.clients:
            if name in site:
                live[:, site[name]] = True
        names = [service.layout.service.name for service in made.pairs.services]
        number = {name: place for place, name in enumerate(names)}
        for client, service in view.demand:
            if client in site and service in number:
                live[number[service], site[client]] = True
        return live.ravel() if live.any() else np.ones(live.size, dtype=bool)

    def _predicted(self) -> float | None:
        """Return the mean latency that was predicted for now, seconds."""
        decision = self._decision
        if decision is None or not len(decision.shares):
            return None
        flow, problem = decision.problem.flow, decision.problem
        rate = flow.demand[flow.row] * decision.shares
        inside = flow.work * decision.inside[flow.column]
        return float(np.dot(rate, problem.rtt + problem.transfer + inside) / rate.sum())

    def _build(self, decision: Decision, pushed: Decision) -> Plan:
        assignments = self._assign(decision)
        proposed: Mapping[Key, Assignment] = {}
        if pushed is not decision:
            proposed = assignments
            assignments = self._assign(pushed)
        self._current.take(pushed)
        return Plan(
            version=assignments.version,
            at=decision.view.at,
            assignments=assignments,
            proposed=proposed,
            standing=self._build_standing(decision),
            probes=probes_of(pushed),
            promises=self._promises.outlook,
            spending=predict_spending(pushed),
            predicted_cost=pushed.cost,
            gap=decision.gap,
            held=decision.held,
            gain=decision.gain,
            predicted_latency=self._predicted(),
            prediction_error=self._monitor.error,
            prediction_miss=self._monitor.miss,
            reversals=self._hysteresis.reversals,
            oscillating=self._hysteresis.oscillating,
            failing=self._failures.failing,
            cold_starts=pushed.starts,
            find_scaling=cache(
                partial(
                    scaling_groups,
                    pushed,
                    *self._scaling.update(pushed, self._promises.tails(pushed.problem.layout)),
                )
            ),
        )

    def _assign(self, decision: Decision) -> Assignments:
        chosen = self._fallbacks.choose(
            decision.problem,
            np.flatnonzero(decision.weights),
            decision.probed,
            now=decision.view.at,
        )
        return Assignments(decision, chosen)

    def _observe(self, decision: Decision) -> Decision:
        """Return the static split of the same problem, pushed while operators only watch."""
        problem = decision.problem
        shares = apply_rule(PolicyName.STATIC, problem, decision.load)
        pairs = [(row.service, row.site) for row in (*problem.rows, *problem.empty)]
        watching = "observe mode: the decided shares are proposed, not pushed"
        return replace(
            decision.under(shares, self._weigh(problem, shares)),
            policies=dict.fromkeys(pairs, PolicyName.STATIC),
            notes=dict.fromkeys(pairs, watching),
        )

    def _build_standing(self, decision: Decision) -> dict[Key, Assignment]:
        """Return what would be pushed in the place of each canary."""
        if decision.standing is None:
            return {}
        weights = self._weigh(decision.problem, decision.standing)
        other = replace(decision.under(decision.standing, weights), policies={}, notes={})
        layout = decision.problem.layout
        assignments = self._assign(other)
        keys = [
            (layout.services[row.service].service.name, layout.sites[row.site])
            for row in decision.problem.rows
            if other.standing_of(row) is not None
        ]
        return {key: assignments[key] for key in keys}

    def _keep(self, plan: Plan, config: Config) -> Plan | None:
        """Return what `kept_under` does, made once: an operator may drain while all is silent.

        From the plan that was decided last, so that the end of a drain brings back what it took.
        """
        kept = self._kept
        if kept is None or kept[0] is not plan or kept[1] is not config:
            kept = self._kept = plan, config, kept_under(plan, config)
        return kept[2]


def _completed(view: FleetView, layout: Layout) -> Array:
    """Return the requests a second that each instance completes; 0 where no one says."""
    rates = (view.instances[each.name].rates.get(Signal.COMPLETED) for each in layout.instances)
    return np.array([0.0 if rate is None else rate.value for rate in rates])


def _wants_every_pair(made: Picture) -> Flags:
    """Report the services of the pairs of which rules or operators may use any pair."""
    services = [service.layout for service in made.pairs.services]
    return np.array(
        [
            each.policy is not PolicyName.OPTIMAL
            or each.canary is not None
            or bool(each.limits)
            or bool(made.low[list(each.columns)].any())
            for each in services
        ],
        dtype=bool,
    )


def _with_probes(flow: Flow, shares: Array, probed: Array) -> Array:
    """Return *shares* with the part of each row's requests that is given to probe."""
    if not probed.any():
        return shares
    given = np.bincount(flow.row, probed, len(flow.demand))
    return shares * (1.0 - given)[flow.row] + probed


def _overload_notes(problem: Problem, drops: Mapping[int, float]) -> dict[Pair, str]:
    return {
        (row.service, row.site): (
            f"overload: {drops[row.service]:.0%} of the requests are refused, so that the "
            f"instances, which are full, serve the others in time"
        )
        for row in (problem.rows if drops else ())
        if drops.get(row.service)
    }


def _fullness(problem: Problem, load: Array) -> float:
    """Return *load* over capacity, (instances,), of all instances that clients share."""
    shared = problem.layout.reach < 0
    return float(load[shared].sum() / problem.curves.capacity[shared].sum())


def _standing_latency(made: Picture) -> float:
    """Return the mean latency that the requests known to be inside amount to, seconds."""
    demand = sum(float(service.demand.sum()) for service in made.pairs.services)
    each = np.array([estimate.number or 0.0 for estimate in made.estimates])
    number = float((made.curves.copies * each).sum())
    return number / demand if demand > 0 else 0.0
