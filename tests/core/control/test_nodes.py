"""Nodes that join, come back, are replaced or stay away."""

from flame.core.control.effects import DropNodeLink
from flame.core.control.events import NodeSaid
from flame.model.executor_messages import AssignTasks
from flame.model.limits import FORGET_NODE_MS, LEASE_MARGIN_MS, LEASE_MS
from flame.model.node_messages import AcknowledgeExit, EndExecutor, ExecutorExited, JoinNode, PingNode, PongNode
from flame.model.resources import Resources
from flame.model.states import NodeState
from tests.core.harness import Core, one_session


def test_a_ping_renews_the_lease_and_comes_back_as_it_was() -> None:
    core = one_session(cpu=1, tasks=5)
    core.start("1-1")
    for _ in range(6):
        core.advance(LEASE_MS // 3)
        core.node("n1", PingNode(123))
    assert {message.sent_ns for message in core.sent(PongNode)} == {123}
    assert core.assigned() == {"1-1": 2}
    core.advance(LEASE_MS)
    assert core.state.executors, "the node may be killing them just now"
    core.advance(LEASE_MARGIN_MS)
    assert not core.state.executors, "silence for a whole lease: they are dead"
    assert [effect.node for effect in core.effects if isinstance(effect, DropNodeLink)] == ["n1"]


def test_a_second_node_with_the_same_name_is_sent_away_and_the_first_stays() -> None:
    core = one_session(cpu=1, tasks=5)
    core.start("1-1")
    other = JoinNode(node="n1", instance="two", capacity=Resources(cpu=9))
    core.turn(NodeSaid("n1", 99, other))
    (drop,) = [effect for effect in core.effects if isinstance(effect, DropNodeLink)]
    assert (drop.link, drop.error.code) == (99, "ALREADY_EXISTS")
    assert core.state.nodes["n1"].capacity.cpu == 1
    assert core.assigned() == {"1-1": 2}


def test_after_a_flap_executors_that_the_node_lists_go_on_and_others_are_gone() -> None:
    core = one_session(cpu=2, tasks=50)
    core.start_all()
    core.lose_node("n1")
    core.lose_executor("1-2")
    core.join(executors=(core.listed("1-1"),))
    assert "1-1" in core.assigned()
    assert "1-2" not in core.assigned()
    assert len(core.assigned()) == 2, "its place is taken"
    assert core.session("app-000001").unfinished == 50
    core.take()
    core.start_all()
    assert core.sent(AssignTasks)


def test_a_new_instance_has_none_of_the_executors_of_the_one_before() -> None:
    core = one_session(cpu=2, tasks=50)
    core.start_all()
    core.lose_node("n1")
    core.join(cpu=1, instance="two")
    core.advance(1_000)
    assert len(core.state.executors) == 1
    assert core.session("app-000001").unfinished == 50


def test_an_executor_that_nobody_knows_is_ended_and_its_exit_acknowledged() -> None:
    core = Core()
    core.attach("a")
    core.join()
    core.submit("a", 1, 1)
    report = core.listed("1-1")
    core.exit("1-1", signal=9)
    core.take()
    core.join(executors=(report,), exits=(ExecutorExited(executor="9-9", binding=9, session=1),))
    assert [(end.executor, end.binding) for end in core.sent(EndExecutor)] == [("1-1", report.binding)]
    assert [(end.executor, end.binding) for end in core.sent(AcknowledgeExit)] == [("9-9", 9)]


def test_a_message_on_an_old_link_of_a_node_is_not_heard() -> None:
    core = one_session(cpu=1, tasks=1)
    core.turn(NodeSaid("n1", 99, PingNode(5)))
    core.turn(NodeSaid("unknown", 99, PingNode(5)))
    assert not core.sent(PongNode)


def test_after_a_restart_a_silent_node_has_its_whole_lease_and_the_margin() -> None:
    core = one_session(cpu=1, tasks=5)
    core.start("1-1")
    core.restart()
    core.advance(LEASE_MS)
    assert core.state.executors
    core.advance(LEASE_MARGIN_MS)
    assert not core.state.executors


def test_a_node_that_stays_away_is_shown_for_a_while_and_then_forgotten() -> None:
    core = one_session(cpu=1, tasks=5)
    core.join("n2", cpu=1)
    core.lose_node("n1")
    core.lose_node("n2")
    core.advance(LEASE_MS + LEASE_MARGIN_MS + FORGET_NODE_MS // 2)
    assert [node.state for node in core.state.nodes.values()] == [NodeState.NOT_READY] * 2
    core.join("n2", cpu=1, instance="two")
    core.advance(LEASE_MS // 2)
    for _ in range(2 * FORGET_NODE_MS // LEASE_MS):
        core.node("n2", PingNode(1))
        core.advance(LEASE_MS // 2)
    assert [(node.name, node.state) for node in core.state.nodes.values()] == [("n2", NodeState.READY)]
    core.join("n1", cpu=1)
    assert core.state.nodes["n1"].state is NodeState.READY


def test_a_join_that_comes_late_over_a_former_link_is_out_of_date() -> None:
    core = one_session(cpu=1, tasks=5)
    core.start("1-1")
    former = core.links["n1"]
    core.lose_node("n1")
    core.join(executors=(core.listed("1-1"),))
    core.take()
    node = core.state.nodes["n1"]
    before = core.assigned()
    core.turn(NodeSaid("n1", former, JoinNode(node="n1", instance=node.instance, capacity=Resources(cpu=1))))
    (drop,) = [effect for effect in core.effects if isinstance(effect, DropNodeLink)]
    assert (drop.link, drop.error.code) == (former, "UNAVAILABLE")
    assert node.link == core.links["n1"]
    assert core.assigned() == before
    assert "1-1" in before
