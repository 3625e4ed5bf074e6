"""Workloads are drawn, of the size that was asked for, and of every kind."""

from random import Random

import msgspec

from flame.sim.workload import BEHAVIORS, SessionPlan, Size, TaskKind, Workload


def test_a_task_says_what_it_does_in_its_input() -> None:
    kind = TaskKind(7, "fail", 5, True, 10, "xx")
    assert msgspec.json.decode(msgspec.json.encode(kind), type=TaskKind) == kind
    assert kind.output() == b"7" + bytes(10)


def test_plans_add_up_to_the_size() -> None:
    for seed in range(20):
        plans = Workload(Random(seed), Size(sessions=7, tasks=1_000)).plans()
        assert len({plan.name for plan in plans}) == 7
        assert 1_000 <= sum(plan.tasks for plan in plans) <= 1_007


def test_over_a_few_seeds_everything_is_planned() -> None:
    plans: list[SessionPlan] = []
    behaviors: set[str] = set()
    for seed in range(20):
        workload = Workload(Random(seed), Size())
        plans += workload.plans()
        behaviors |= {workload.task(number).behavior for number in range(300)}
    assert behaviors == set(BEHAVIORS)
    for field in ("cancels", "close_early", "slow_ms", "delete", "again", "others", "readers"):
        assert any(getattr(plan, field) for plan in plans), field
        assert not all(getattr(plan, field) for plan in plans), field
