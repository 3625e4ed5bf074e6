"""The scheduler: what may never happen in any plan, and that shares are fair over time."""

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.core.scheduling.plan import plan
from flame.core.scheduling.view import ExecutorView, NodeView, Plan, SessionView, View
from flame.model.resources import Resources

ONE = Resources(cpu=1)


def session(number: int, wants: int, **fields: object) -> SessionView:
    values = {"priority": 0, "resources": ONE, "least": 0, "used_ms": 0} | fields
    return SessionView(number=number, wants=wants, **values)  # type: ignore[arg-type]


def view_of(
    sessions: list[SessionView], executors: list[ExecutorView] | None = None, *, nodes: tuple[int, ...] = (4,)
) -> View:
    named = tuple(NodeView(name=f"n{index}", capacity=Resources(cpu=cpu)) for index, cpu in enumerate(nodes))
    return View(sessions=tuple(sessions), executors=tuple(executors or ()), nodes=named, rotation_ms=250)


def apply(view: View, decided: Plan, names: "count[int]", *, leave: bool = True) -> View:
    """The view after a plan was carried out; with `leave`, whoever was asked to go is gone."""
    resources = {s.number: s.resources for s in view.sessions}
    executors = []
    reused = {bind.executor: bind for bind in decided.bind if bind.executor}
    for executor in view.executors:
        if executor.id in decided.remove or (executor.id in decided.unbind and leave):
            continue
        owner = reused[executor.id].session if executor.id in reused else executor.session
        leaving = executor.leaving or executor.id in decided.unbind
        executors.append(msgspec.structs.replace(executor, session=owner, leaving=leaving))
    executors.extend(
        ExecutorView(id=f"x{next(names)}", node=bind.node, resources=resources[bind.session], session=bind.session)
        for bind in decided.bind
        if not bind.executor
    )
    return msgspec.structs.replace(view, executors=tuple(executors))


def bound(view: View) -> dict[int, int]:
    counts = {s.number: 0 for s in view.sessions}
    for executor in view.executors:
        if executor.session in counts and not executor.leaving:
            counts[executor.session] += 1
    return counts


@st.composite
def views(draw: st.DrawFn, *, sizes: tuple[int, ...] = (1, 1, 2)) -> View:
    """Clusters in any state that plans can have led to: nothing is overbooked."""
    cpus = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    limits = [draw(st.sampled_from((0, 0, 2))) for _ in cpus]
    sessions = []
    for number in range(1, 1 + draw(st.integers(1, 4))):
        wants = draw(st.integers(0, 6))
        sessions.append(
            session(
                number,
                wants,
                priority=draw(st.integers(0, 1)),
                resources=Resources(cpu=draw(st.sampled_from(sizes))),
                least=draw(st.integers(0, min(2, wants))),
                used_ms=draw(st.integers(0, 1000)),
                startable=draw(st.sampled_from((True, True, True, False))),
            )
        )
    nodes = tuple(
        NodeView(name=f"n{index}", capacity=Resources(cpu=cpu), max_executors=limit)
        for index, (cpu, limit) in enumerate(zip(cpus, limits, strict=True))
    )
    executors: list[ExecutorView] = []
    for node in nodes:
        left, places = node.capacity.cpu, node.max_executors or 100
        while left and places and draw(st.booleans()):
            owner = draw(st.sampled_from(sessions))
            if owner.resources.cpu > left:
                break
            left, places = left - owner.resources.cpu, places - 1
            executors.append(
                ExecutorView(
                    id=f"e{len(executors)}",
                    node=node.name,
                    resources=owner.resources,
                    session=draw(st.sampled_from((owner.number, owner.number, 0))),
                    idle=draw(st.booleans()),
                    leaving=draw(st.sampled_from((False, False, False, True))),
                )
            )
    executors = [msgspec.structs.replace(e, leaving=e.leaving and e.session > 0) for e in executors]
    return View(sessions=tuple(sessions), executors=tuple(executors), nodes=nodes, rotation_ms=250)


@given(views())
def test_no_node_is_overbooked_and_nobody_gets_more_than_wanted(view: View) -> None:
    after = apply(view, plan(view), count(), leave=False)
    for node in view.nodes:
        there = [executor for executor in after.executors if executor.node == node.name]
        assert sum(executor.resources.cpu for executor in there) <= node.capacity.cpu
        assert not node.max_executors or len(there) <= node.max_executors
    before = bound(view)
    for one in view.sessions:
        assert bound(after)[one.number] <= max(one.wants, before[one.number])
        assert one.startable or bound(after)[one.number] <= before[one.number], "it is backing off"


@given(views())
def test_only_who_is_bound_is_unbound_and_only_for_somebody_else(view: View) -> None:
    decided = plan(view)
    movable = {executor.id for executor in view.executors if executor.session and not executor.leaving}
    assert set(decided.unbind) <= movable
    assert len(set(decided.unbind)) == len(decided.unbind)
    spare = {executor.id for executor in view.executors if not executor.session}
    assert set(decided.remove) <= spare
    before = bound(view)
    if all(before[one.number] >= one.wants or not one.startable for one in view.sessions):
        assert not decided.unbind, "nobody needs room"


@given(views(sizes=(1,)))
def test_applied_again_and_again_plans_come_to_rest(view: View) -> None:
    names = count()
    for _ in range(3):
        view = apply(view, plan(view), names)
        view = msgspec.structs.replace(view, executors=tuple(e for e in view.executors if not e.leaving))
    rest = plan(view)
    assert (rest.bind, rest.unbind, rest.remove) == ((), (), ())
    startable = [one for one in view.sessions if one.startable]
    least = sum(one.least for one in startable)
    room = sum(min(node.capacity.cpu, node.max_executors or 100) for node in view.nodes)
    counts = bound(view)
    if len(startable) == len(view.sessions):
        if least <= room:
            assert all(counts[one.number] >= one.least for one in view.sessions), "minimums come first"
        for one in view.sessions:
            for other in view.sessions:
                _check_pair(one, other, counts)
        assert sum(counts.values()) == min(room, sum(max(one.wants, 0) for one in view.sessions)) or any(
            counts[one.number] > one.wants for one in view.sessions
        ), "room is left, and somebody wants it"


def _check_pair(one: SessionView, other: SessionView, counts: dict[int, int]) -> None:
    hungry = counts[one.number] < one.wants
    if not hungry or counts[other.number] <= other.least:
        return
    assert other.priority >= one.priority, "a higher priority goes first"
    if other.priority == one.priority and counts[one.number] >= one.least:
        assert counts[other.number] <= counts[one.number] + 1, "among equals the shares differ by one at most"


@given(views())
def test_the_same_view_has_the_same_plan(view: View) -> None:
    again = msgspec.json.decode(msgspec.json.encode(view), type=View)
    assert plan(view) == plan(again)


@given(views(sizes=(1,)))
def test_the_order_of_sessions_does_not_change_what_they_get(view: View) -> None:
    turned = msgspec.structs.replace(view, sessions=view.sessions[::-1])
    assert bound(apply(view, plan(view), count())) == bound(apply(turned, plan(turned), count()))


def test_idle_executors_go_first_and_no_more_than_are_needed() -> None:
    executors = [
        ExecutorView(id=f"e{index}", node="n0", resources=ONE, session=1, idle=index == 2) for index in range(4)
    ]
    decided = plan(view_of([session(1, 1), session(2, 1)], executors))
    assert decided.unbind == ("e2",)


def test_what_is_on_its_way_out_already_is_enough() -> None:
    executors = [
        ExecutorView(id=f"e{index}", node="n0", resources=ONE, session=1, leaving=index == 0) for index in range(4)
    ]
    decided = plan(view_of([session(1, 4), session(2, 1)], executors))
    assert decided.unbind == ()
    assert decided.contended


def test_an_executor_without_a_session_is_used_again_or_removed_for_room() -> None:
    spare = ExecutorView(id="e0", node="n0", resources=ONE)
    reused = plan(view_of([session(1, 1)], [spare], nodes=(1,)))
    assert [(bind.session, bind.executor) for bind in reused.bind] == [(1, "e0")]
    large = session(1, 1, resources=Resources(cpu=2))
    removed = plan(view_of([large], [spare], nodes=(2,)))
    assert removed.remove == ("e0",)
    assert [(bind.session, bind.executor) for bind in removed.bind] == [(1, "")]


def test_somebody_moves_only_where_there_is_no_other_way() -> None:
    small = ExecutorView(id="e0", node="n0", resources=ONE, session=1)
    large = session(2, 1, resources=Resources(cpu=2), priority=1)
    assert plan(view_of([session(1, 1), large], [small], nodes=(2, 1))).unbind == ("e0",)
    assert plan(view_of([session(1, 1), large], [small], nodes=(3, 1))).unbind == ()


@pytest.mark.parametrize("executors", [1, 3])
def test_two_equal_sessions_share_executors_over_time(executors: int) -> None:
    used = {1: 0, 2: 0}
    names = count()
    view = view_of([session(1, 9), session(2, 9)], nodes=(executors,))
    for _ in range(2_000):
        sessions = tuple(session(number, 9, used_ms=used[number]) for number in used)
        view = msgspec.structs.replace(view, sessions=sessions)
        view = apply(view, plan(view), names)
        view = apply(view, plan(view), names)
        for number, executors_now in bound(view).items():
            used[number] += 10 * executors_now
    total = sum(used.values())
    assert total == 2_000 * 10 * executors, "no executor is left without work"
    assert abs(used[1] - total / 2) <= 0.05 * total, used


def test_shares_change_hands_rarely() -> None:
    used = {1: 0, 2: 0}
    names = count()
    view = view_of([session(1, 9), session(2, 9)], nodes=(1,))
    changes = 0
    for _ in range(1_000):
        view = msgspec.structs.replace(
            view, sessions=tuple(session(number, 9, used_ms=used[number]) for number in used)
        )
        decided = plan(view)
        changes += len(decided.unbind)
        view = apply(view, decided, names)
        view = apply(view, plan(view), names)
        for number, executors_now in bound(view).items():
            used[number] += 10 * executors_now
    assert changes <= 10_000 / 250, "an executor stays with its session for a while"
