"""What changes is reported once, and once when that is over."""

from __future__ import annotations

from collections import Counter

from structlog.testing import capture_logs

from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.decider import Decision
from controlplane.controller.events import EventHub
from controlplane.controller.metrics import Metrics
from controlplane.controller.notifier import Notifier
from controlplane.fleet.view import ColdStart, InstanceView, Phase
from controlplane.model import FailureClass
from controlplane.runtime.log import get_logger
from controlplane.steering.plan import Failing, Plan
from testbed.fakes.views import make_config, make_instance, make_view

VIEW = make_view(make_config(instances=[make_instance("a", "near")]))


def failing(probability: float) -> tuple[Failing, ...]:
    """Return an instance that fails that part of its requests."""
    return (Failing("a", "chat", probability, FailureClass.UNANSWERED, 1.0),)


def test_a_failing_instance_is_reported_once_and_once_when_it_answers_again() -> None:
    """However the probability moves in between; chance is not reported at all."""
    hub = EventHub()
    notifier = Notifier(log=get_logger(), events=hub, metrics=Metrics(), unix_time=lambda: 0.0)

    def cycle(*items: Failing) -> None:
        plan = Plan(version="1", at=0.0, assignments={}, failing=items)
        notifier.report_cycle(CycleResult(VIEW, Decision(plan, 0.0)))

    with capture_logs() as logs:
        cycle(*failing(0.02))
        cycle(*failing(0.8))
        cycle(*failing(0.05))
        cycle(*failing(0.9))
        cycle()
        cycle()

    assert ["instance failing", "instance answers again"] == [each["event"] for each in logs]
    assert ("unanswered", "warning") == (logs[0]["failure"], logs[0]["log_level"])
    assert logs[0]["remedy"]
    assert logs[0]["awaited"]


def test_a_start_is_reported_when_it_is_asked_for_when_it_fails_and_when_it_is_overdue() -> None:
    """Each once; sleeping is no fault, and two failures in a row are two."""
    config = make_config(instances=[make_instance("z", "near", wake={"start_up": "60s"})])
    notifier = Notifier(
        log=get_logger(), events=EventHub(), metrics=Metrics(), unix_time=lambda: 0.0
    )
    wake = config.instances[0].wake
    assert wake is not None

    def cycle(start: ColdStart | None) -> None:
        phase = Phase.LIVE if start is None else Phase.ASLEEP
        shown = InstanceView(config.instances[0], phase, 1.0, 1.0, cold_start=start)
        plan = Plan(version="1", at=0.0, assignments={})
        view = make_view(config, instances={"z": shown})
        notifier.report_cycle(CycleResult(view, Decision(plan, 0.0)))

    with capture_logs() as logs:
        cycle(None)
        cycle(ColdStart(wake))
        for at in (1.0, 2.0):
            for _ in range(2):
                cycle(ColdStart(wake, requested_at=at, retry_at=90.0, error="status 500"))
        for pending in (True, True, False, False):
            cycle(ColdStart(wake, requested_at=100.0, pending=pending))
        cycle(None)

    events = [(each["event"], each["log_level"]) for each in logs]
    assert [
        ("instance asleep", "info"),
        ("instance start failed", "warning"),
        ("instance start failed", "warning"),
        ("instance start requested", "info"),
        ("instance start overdue", "warning"),
        ("instance changed phase", "info"),
    ] == events
    assert all(each["remedy"] for each in logs if each["log_level"] == "warning")
    assert "status 500" == logs[1]["reason"]


def test_an_instance_that_flaps_is_a_line_a_minute_that_says_how_it_is() -> None:
    """Ready and not ready in turn for five minutes: the log does not grow with each turn."""
    config = make_config(instances=[make_instance("a", "near")])
    notifier = Notifier(
        log=get_logger(), events=EventHub(), metrics=Metrics(), unix_time=lambda: 0.0
    )

    def cycle(second: int) -> None:
        phase = Phase.LIVE if second % 2 else Phase.NOT_READY
        shown = InstanceView(config.instances[0], phase, 1.0, 1.0, reason=f"at {second}")
        plan = Plan(version="1", at=0.0, assignments={})
        view = make_view(config, at=float(second), instances={"a": shown})
        notifier.report_cycle(CycleResult(view, Decision(plan, 0.0)))

    with capture_logs() as logs:
        for second in range(302):
            cycle(second)

    counts = Counter(each["event"] for each in logs)
    assert 5 == counts.pop("instance changes phase again and again")
    assert {"instance changed phase": 3, "instance removed from rotation": 3} == counts
    assert (60, "live", "at 301") == tuple(logs[-1][key] for key in ("changes", "phase", "reason"))
    assert all(each["remedy"] for each in logs if each["log_level"] == "warning")


async def test_thousands_of_instances_that_fall_silent_at_once_get_twenty_lines_and_a_count() -> (
    None
):
    """What is logged in one cycle, and sent to watchers, does not grow with the fleet."""
    config = make_config(
        instances=[make_instance(f"i-{n}", "near", address=f"10.0.0.{n}:80") for n in range(70)]
    )
    hub = EventHub()
    watcher = hub.watch(frozenset())
    notifier = Notifier(log=get_logger(), events=hub, metrics=Metrics(), unix_time=lambda: 0.0)

    def cycle(phase: Phase) -> None:
        shown = {each.name: InstanceView(each, phase, 1.0, 1.0) for each in config.instances}
        plan = Plan(version="1", at=0.0, assignments={})
        notifier.report_cycle(CycleResult(make_view(config, instances=shown), Decision(plan, 0.0)))

    with capture_logs() as logs:
        for phase in (Phase.LIVE, Phase.EXPIRED, Phase.LIVE):
            cycle(phase)

    assert [("warning", 21), ("info", 21)] == list(
        Counter(each["log_level"] for each in logs).items()
    )
    assert [50, 50] == [each["more_instances"] for each in logs if "more_instances" in each]
    assert 2 * 20 == (await watcher.next_bytes()).count(b"event: fault")
