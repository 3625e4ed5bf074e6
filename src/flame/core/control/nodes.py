"""Nodes: they join, keep their lease, report what their executors do, and are lost."""

from flame.core.control.effects import DropNodeLink
from flame.core.control.entities import Node
from flame.core.control.executors import LINK_END_MS, adopt, end_binding, entered, on_executor_exited, remove
from flame.core.control.state import State, Turn
from flame.core.control.transitions import NODES, NodeLife
from flame.model.errors import Rejection
from flame.model.limits import FORGET_NODE_MS, LEASE_MARGIN_MS
from flame.model.node_messages import (
    EndExecutor,
    ExecutorExited,
    ExecutorStarted,
    JoinNode,
    NodeJoined,
    PingNode,
    PongNode,
)


def on_join_node(state: State, turn: Turn, link: int, message: JoinNode) -> None:
    """A node presents itself: what it lists lives, all else that we knew there is gone."""
    node = state.nodes.get(message.node)
    if node is None:
        node = state.nodes[message.node] = Node(name=message.node)
    if link < node.newest_link:
        error = Rejection("UNAVAILABLE", f"node {message.node!r} has joined on a newer link")
        turn.now.append(DropNodeLink(message.node, link, error))
        return
    if node.link and node.instance != message.instance:
        error = Rejection(
            "ALREADY_EXISTS",
            f"node {message.node!r} is in this cluster already, on {node.host}",
            "give each executor manager a node name of its own (node: in its configuration)",
        )
        turn.now.append(DropNodeLink(message.node, link, error))
        return
    if node.instance != message.instance:
        for idle in [executor for executor in node.executors.values() if executor.binding is None]:
            remove(state, turn, idle)
    node.newest_link = link
    node.instance = message.instance
    node.capacity, node.max_executors = message.capacity, message.max_executors
    node.host, node.arch, node.os = message.host, message.arch, message.os
    _move(state, turn, node, NodeLife.READY, link)
    _renew(state, turn, node)
    state.deadlines.set(("lease", node.name), node.lease_end_ms)
    state.deadlines.drop(("forget", node.name))
    turn.node(node, NodeJoined(lease_ms=state.settings.lease_ms), stored=True)
    listed: dict[str, int] = {}
    for exit in message.exits:
        listed[exit.executor] = exit.binding
        on_executor_exited(state, turn, node, exit)
    for report in message.executors:
        executor = state.executors.get(report.executor)
        binding = executor.binding if executor else None
        if binding is None or binding.number != report.binding:
            turn.node(node, EndExecutor(executor=report.executor, binding=report.binding), stored=True)
            continue
        listed[report.executor] = report.binding
        binding.pid, binding.log_path = report.pid, report.log_path
        if report.executor in binding.session.unaccounted and report.held is not None:
            adopt(state, turn, binding, report.held)
        if report.entered and not binding.entered:
            entered(state, turn, binding)
    for executor in list(node.executors.values()):
        binding = executor.binding
        if binding is None or listed.get(executor.id) == binding.number or binding.exit is not None:
            continue
        if binding.link:
            number = binding.session.number
            binding.exit = ExecutorExited(
                executor=executor.id, binding=binding.number, session=number, entered=True, killed=True
            )
            state.deadlines.set(("exit", executor.id), turn.now_ms + LINK_END_MS)
        else:
            end_binding(state, turn, binding, None)
    state.replan = True


def _renew(state: State, turn: Turn, node: Node) -> None:
    node.last_seen_ms = turn.now_ms
    node.lease_end_ms = turn.now_ms + state.settings.lease_ms + LEASE_MARGIN_MS


def _move(state: State, turn: Turn, node: Node, life: NodeLife, link: int = 0) -> None:
    """Change what is known of it, and what depends on that: whether its executors serve, how many there may be."""
    for executor in node.executors.values():
        if executor.binding is not None:
            executor.binding.session.account(turn.now_ms)
    node.move(life, link)
    state.count_places()


def on_ping_node(state: State, turn: Turn, node_name: str, link: int, message: PingNode) -> None:
    """Renew the lease: the node counts it from its ping, we from our answer."""
    node = state.nodes.get(node_name)
    if node is not None and node.link == link:
        _renew(state, turn, node)
        turn.node(node, PongNode(message.sent_ns), stored=True)


def on_executor_started(state: State, turn: Turn, message: ExecutorStarted) -> None:
    """A process was started for a binding."""
    executor = state.executors.get(message.executor)
    if executor is not None:
        executor.log_path = message.log_path
        if executor.binding is not None and executor.binding.number == message.binding:
            executor.binding.pid, executor.binding.log_path = message.pid, message.log_path


def on_node_lost(state: State, turn: Turn, node_name: str, link: int) -> None:
    """The link is over: the node's executors go on until its lease is over; nothing new is placed there."""
    node = state.nodes.get(node_name)
    if node is not None and node.link == link:
        _move(state, turn, node, NodeLife.SILENT)
        state.replan = True


def on_lease_deadline(state: State, turn: Turn, node: Node) -> None:
    """The lease may be over: then all executors of the node are dead, and nobody knows what they ran."""
    if node.lease_end_ms > turn.now_ms:
        state.deadlines.set(("lease", node.name), node.lease_end_ms)
        return
    if node.link:
        error = Rejection("UNAVAILABLE", f"node {node.name!r}: no ping for {state.settings.lease_ms} ms")
        turn.now.append(DropNodeLink(node.name, node.link, error))
    _move(state, turn, node, NodeLife.EXPIRED)
    for executor in list(node.executors.values()):
        if executor.binding is not None:
            end_binding(state, turn, executor.binding, None)
        else:
            remove(state, turn, executor)
    state.deadlines.set(("forget", node.name), turn.now_ms + FORGET_NODE_MS)
    state.replan = True


def on_forget_deadline(state: State, turn: Turn, node: Node) -> None:
    """The node has been silent so long that it is no part of the cluster any more; it may join again at any time."""
    NODES.check(node.life, None, node.name)
    del state.nodes[node.name]
