"""Workloads are drawn, of the size that was asked for, and of every kind."""

from random import Random

from flame.model.limits import MAX_TASK_BYTES
from flame.sim.workload import BEHAVIORS, SessionPlan, Size, TaskKind, Workload, kind_of


def test_a_task_says_what_it_does_in_its_input() -> None:
    kind = TaskKind(7, "fail", 5, True, 10, "xx")
    assert kind_of(kind.input()) == kind
    assert kind.output() == b"7" + bytes(10)


def test_an_empty_input_says_nothing_and_an_output_may_be_empty() -> None:
    assert TaskKind(0).input() == b""
    assert kind_of(b"") == TaskKind(0)
    assert TaskKind(7, output_bytes=-1).output() == b""


def test_an_input_can_have_any_size() -> None:
    kind = TaskKind(7, "fail", 5, True, 10, "xx").sized(1_000)
    assert len(kind.input()) == 1_000
    assert kind_of(kind.input()) == kind


def test_some_tasks_are_empty_at_the_limit_or_above() -> None:
    empty = silent = 0
    sizes: set[int] = set()
    for seed in range(60):
        workload = Workload(Random(seed), Random(seed), Size(tasks=100))
        kinds = [workload.task(number, alone=number > 90) for number in range(1, 100)]
        empty += sum(not kind.input() for kind in kinds)
        silent += sum(not kind.output() for kind in kinds)
        sizes |= {len(kind.padding) and len(kind.input()) for kind in kinds}
    assert empty
    assert silent
    assert {MAX_TASK_BYTES, MAX_TASK_BYTES + 1} <= sizes


def test_plans_add_up_to_the_size() -> None:
    for seed in range(20):
        plans = Workload(Random(seed), Random(seed), Size(sessions=7, tasks=1_000)).plans()
        assert len({plan.name for plan in plans}) == 7
        assert 1_000 <= sum(plan.tasks for plan in plans) <= 1_007


def test_over_a_few_seeds_everything_is_planned() -> None:
    plans: list[SessionPlan] = []
    behaviors: set[str] = set()
    for seed in range(20):
        workload = Workload(Random(seed), Random(seed), Size())
        plans += workload.plans()
        behaviors |= {workload.task(number).behavior for number in range(300)}
    assert behaviors == set(BEHAVIORS)
    for field in ("cancels", "close_early", "slow_ms", "delete", "again", "others", "readers"):
        assert any(getattr(plan, field) for plan in plans), field
        assert not all(getattr(plan, field) for plan in plans), field
