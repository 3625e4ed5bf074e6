"""Answers about the present state, for the frontend. They change nothing, and run between turns."""

from collections.abc import Iterator

import msgspec

from flame.core.control.entities import Executor, Node, Session
from flame.core.control.state import State
from flame.model.ranges import Range
from flame.model.resources import Resources
from flame.model.states import TaskState


class SessionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of a session are in which state, and how many executors are bound to it."""

    pending: int
    running: int
    succeed: int
    failed: int
    cancelled: int
    executors: int


def counts(session: Session) -> SessionCounts:
    """Count a session's tasks. An executor runs one task at a time; what it holds beside that is pending."""
    running = sum(1 for binding in session.bindings.values() if binding.held_tasks)
    return SessionCounts(
        pending=session.queue.tasks + session.held_tasks - running,
        running=running,
        succeed=session.succeeded,
        failed=session.failed,
        cancelled=session.cancelled,
        executors=len(session.bindings),
    )


def unfinished_state(session: Session, task: int) -> TaskState | None:
    """Pending or Running, or None if the task is terminal or unknown.

    An executor runs the first task that it holds; the others wait for it.
    """
    for binding in session.bindings.values():
        for place, held in enumerate(binding.held.values()):
            for span in held.spans:
                if span.first <= task < span.end:
                    running = place == 0 and span is held.spans[0] and task == span.first
                    return TaskState.RUNNING if running else TaskState.PENDING
    if any(span.first <= task < span.end for span in session.queue.spans):
        return TaskState.PENDING
    return None


def submitted(session: Session) -> Iterator[Range]:
    """The ids of all tasks of a session, ascending."""
    for first in sorted(session.blocks):
        block = session.blocks[first]
        if block.next_id > block.first:
            yield Range(block.first, block.next_id - block.first)


def was_submitted(session: Session, task: int) -> bool:
    """Whether a task with this id was accepted."""
    return any(block.first <= task < block.next_id for block in session.blocks.values())


def allocatable(node: Node) -> Resources:
    """What a node has left for new executors; nothing where more is taken than there is (a node not back yet)."""
    left = node.capacity
    for executor in node.executors.values():
        left = left.minus(executor.resources)
    return Resources(cpu=max(0, left.cpu), memory_bytes=max(0, left.memory_bytes), gpu=max(0, left.gpu))


def executors(state: State) -> list[Executor]:
    """All executors, in the order in which they were made."""
    return list(state.executors.values())
