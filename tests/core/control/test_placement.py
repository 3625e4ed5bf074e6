"""Placement: plans are made when something changed, and the rotation has no old claims."""

from flame.core.control.placement import _readable, view_of, wants
from flame.core.control.transitions import NodeLife
from flame.core.scheduling.view import View
from flame.model.client_messages import CancelTasks, SessionChanged
from flame.model.executor_messages import LeaveSession
from flame.model.limits import MAX_PROCESSES_PER_NODE
from flame.model.node_messages import BindExecutor
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from tests.core.harness import Core, one_session


def test_a_session_wants_an_executor_per_unfinished_task_within_all_limits() -> None:
    core = Core(ApplicationSpec(service="m:C", max_instances=3))
    core.join(cpu=8)
    core.attach("a", create=SessionSpec(application="app", min_instances=1))
    session = core.session("app-000001")
    assert wants(core.state, session) == 1
    core.submit("a", 1, 2)
    assert wants(core.state, session) == 2
    core.submit("a", 3, 50)
    assert wants(core.state, session) == 3
    core.lose_node("n1")
    assert wants(core.state, session) == 0, "there is nowhere to run"
    core.join(cpu=1)
    assert wants(core.state, session) == 1, "it came back smaller"
    core.close("app-000001")
    assert wants(core.state, session) == 0


def test_what_the_scheduler_sees_is_the_state() -> None:
    core = one_session(cpu=2, tasks=1)
    core.start("1-1")
    core.report("1-1")
    view: View = view_of(core.state, core.now_ms)
    assert [(e.id, e.session, e.idle, e.leaving) for e in view.executors] == [("1-1", 1, True, False)]
    assert [(n.name, n.capacity.cpu) for n in view.nodes] == [("n1", 2)]
    core.lose_node("n1")
    assert view_of(core.state, core.now_ms).nodes == ()


def test_tasks_that_arrive_while_the_executor_leaves_get_another_one_at_once() -> None:
    core = Core(ApplicationSpec(service="m:C", delay_release_ms=10))
    core.join(cpu=2)
    core.attach("a")
    core.submit("a", 1, 1)
    core.start("1-1")
    core.report("1-1")
    core.advance(10)
    assert core.sent(LeaveSession)
    core.take()
    core.submit("a", 2, 1)
    assert [bind.executor for bind in core.sent(BindExecutor)] == ["1-3"]


def test_an_executor_whose_process_ended_is_replaced_before_its_link_has_ended() -> None:
    core = one_session(cpu=2, tasks=2)
    core.start_all()
    core.links.pop("1-1")
    core.take()
    core.exit("1-1", signal=9)
    assert not core.sent(BindExecutor), "its place is taken until it is gone"
    core.advance(1_000)
    assert core.sent(BindExecutor)


def test_a_session_that_was_away_does_not_claim_the_time_it_missed() -> None:
    core = one_session(cpu=1, tasks=1_000, lease_ms=10_000_000)
    core.start("1-1")
    core.attach("b")
    core.submit("b", 1, 1)
    core.advance(60_000)
    first = core.session("app-000001")
    second = core.session("app-000002")
    core.attach("c")
    core.submit("c", 1, 1)
    assert core.session("app-000003").used_ms >= min(first.used_ms, second.used_ms) - 251


def _go_on(core: Core, milliseconds: int) -> dict[str, int]:
    """Let executors work, and go when they are told to; returns the executor time of each session."""
    used: dict[str, int] = {}
    for _ in range(milliseconds // 50):
        core.advance(50)
        for executor in [one for one in core.state.executors.values() if one.binding and one.binding.leaving]:
            core.give_back(executor.id, 0, *core.held(executor.id))
            core.exit(executor.id, left=True)
        core.start_all()
        for executor in core.state.executors.values():
            if executor.binding is not None:
                name = executor.binding.session.record.name
                used[name] = used.get(name, 0) + 50
    return used


def test_who_used_what_was_free_does_not_owe_it_to_those_who_come_later() -> None:
    core = Core()
    core.join(cpu=4)
    for name, most in (("a", 3), ("b", 1)):
        core.attach(name, name, create=SessionSpec(application="app", max_instances=most))
        core.submit(name, 1, 1000)
    core.start_all()
    assert _go_on(core, 20_000) == {"a": 60_000, "b": 20_000}
    for name in ("c", "d", "e"):
        core.attach(name, name)
        core.submit(name, 1, 1000)
    used = _go_on(core, 10_000)
    assert sum(used.values()) == 40_000
    assert all(7_000 <= used.get(name, 0) <= 9_000 for name in "abcde"), used


def test_the_warning_of_a_session_that_fits_nowhere_follows_the_nodes() -> None:
    core = Core()
    core.attach("a", create=SessionSpec(application="app", resources=Resources(cpu=4)))
    core.join("n1", cpu=2)
    core.advance(2_000)
    warnings = [message.warning for message in core.sent(SessionChanged)]
    assert len(warnings) == 1
    assert "cpu=4" in warnings[0]
    assert "cpu=2" in warnings[0]
    core.attach("b")
    core.submit("b", 1, 1)
    assert [message.warning for message in core.sent(SessionChanged)] == warnings, "other sessions do not take it back"
    core.join("n2", cpu=4)
    assert core.session("app-000001").warning == ""


def test_demand_that_falls_makes_room_for_others_also_when_nodes_came_in_between() -> None:
    core = one_session(cpu=2, tasks=4)
    core.join("n2", cpu=2)
    core.attach("b")
    core.submit("b", 1, 1)
    assert sum(binding.leaving for binding in core.session("app-000001").bindings.values()) == 1
    core.client("a", CancelTasks(attachment=1, request=1, first=3, count=2))
    assert core.session("app-000001").wanted == 2
    assert core.session("app-000001").staying <= 3


def test_what_a_session_wants_is_known_after_every_plan() -> None:
    core = one_session(cpu=2, tasks=4)
    assert core.session("app-000001").wanted == 2
    core.join("n2", cpu=2)
    assert core.session("app-000001").wanted == 4


def test_one_on_its_way_out_counts_against_max_instances_until_its_process_is_gone() -> None:
    core = Core(ApplicationSpec(service="m:C", delay_release_ms=100))
    core.join(cpu=4)
    core.attach("a", create=SessionSpec(application="app", max_instances=1))
    core.submit("a", 1, 1)
    (first,) = core.start_all()
    core.report(first)
    core.advance(100)
    assert core.binding(first).leaving
    core.take()
    core.submit("a", 2, 1)
    assert not core.sent(BindExecutor)
    core.exit(first, exit_code=0, left=True)
    assert len(core.sent(BindExecutor)) == 1


def test_a_lost_executor_counts_against_max_instances_until_its_lease_is_over() -> None:
    core = Core()
    core.join(cpu=1)
    core.attach("a", create=SessionSpec(application="app", max_instances=1))
    core.submit("a", 1, 3)
    core.start_all()
    core.take()
    core.lose_node("n1")
    core.advance(1_000)
    core.join("n2", cpu=1)
    core.advance(core.state.nodes["n1"].lease_end_ms - core.now_ms - 1)
    assert not core.sent(BindExecutor), "it may still run"
    core.advance(1)
    assert len(core.sent(BindExecutor)) == 1


def test_resources_in_a_warning_are_rounded_unless_they_would_look_the_same() -> None:
    asked, there = (Resources.parse(f"cpu=1,mem={memory}") for memory in ("32g", "24684096k"))
    assert _readable(asked, there) == ["cpu=1,mem=32g,gpu=0", "cpu=1,mem=23.5g,gpu=0"]
    slightly_more = Resources.parse("cpu=1,mem=24684097k")
    assert _readable(slightly_more, there) == ["cpu=1,mem=24684097k,gpu=0", "cpu=1,mem=24684096k,gpu=0"]


def test_executors_out_of_reach_are_not_charged_to_their_session() -> None:
    core = one_session(cpu=2, tasks=1_000, lease_ms=60_000)
    core.start_all()
    a = core.session("app-000001")
    first, second = a.bindings

    def used(milliseconds: int) -> int:
        a.bill(core.now_ms)
        before = a.used_ms
        core.advance(milliseconds)
        a.bill(core.now_ms)
        return a.used_ms - before

    assert used(100) == 200
    core.lose_executor(first)
    assert used(100) == 200, "its node says that it lives"
    core.lose_node("n1")
    assert used(100) == 100, "the other one is heard of still"
    core.lose_executor(second)
    assert used(100) == 0
    core.join(cpu=2, executors=tuple(core.listed(executor, core.held(executor)) for executor in (first, second)))
    assert used(100) == 200


def test_executors_whose_node_is_heard_of_until_its_lease_ends_are_charged_until_then() -> None:
    core = one_session(cpu=2, tasks=1_000, lease_ms=10_000)
    a = core.session("app-000001")
    a.bill(core.now_ms)
    before = a.used_ms
    core.advance(core.state.nodes["n1"].lease_end_ms - core.now_ms)
    assert core.state.nodes["n1"].life is NodeLife.EXPIRED
    a.bill(core.now_ms)
    assert a.used_ms - before >= 2 * 10_000


def test_no_node_gets_more_executors_than_it_can_list_when_it_joins() -> None:
    core = Core()
    core.join(cpu=1_000_000)
    core.join("n2", cpu=1_000_000, max_executors=MAX_PROCESSES_PER_NODE + 1)
    assert [node.max_executors for node in view_of(core.state, core.now_ms).nodes] == [MAX_PROCESSES_PER_NODE] * 2
    assert core.state.places == 2 * MAX_PROCESSES_PER_NODE
