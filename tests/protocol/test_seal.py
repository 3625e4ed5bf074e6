"""The seal of a shared table between two processes that hit it at one moment, as an assignment and a join do.

Every task that an executor takes after its node has answered for it must be in that answer: else the next session
manager gives it out again, and it runs twice.
"""

import mmap
import os
import threading
import time
from array import array
from collections.abc import Callable
from itertools import count
from typing import Final

import pytest

from flame.model.executor_messages import AssignTasks
from flame.model.messages import Welcome
from flame.model.node_messages import JoinNode
from flame.model.ranges import HeldRange
from flame.protocol.executor import ExecutorHalf
from flame.protocol.node import NodeHalf
from flame.protocol.shared_table import TABLE_BYTES, SharedTable
from tests.protocol.test_node import bind, make_node

SPAN_S: Final = 1.5
"""Thousands of rounds; more time is taken where the machine is so busy that one order has not come up yet."""
LEAST: Final = 50
_SWEEP: Final = 16
"""The executor is late by up to so many steps, in turns, so that every order of the two's steps comes up. The node is
later after a task that it has forestalled, else earlier, and so they stay close together."""
_READY, _OVER, _TAKEN = 0, 1, 64
"""Words behind the table: rounds the executor is ready for, rounds the node is done with, whether it took a task."""
_PATIENCE_S: Final = 30.0


def spin(words: memoryview, place: int, number: int) -> None:
    """Wait without sleeping for the other process; both have to go on at one moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while words[place] < number:
        if time.monotonic() > deadline:
            raise AssertionError(f"the other process did not come to round {number}")


def late_by(steps: int) -> None:
    for _ in range(steps):
        pass


def play_executor(memory: mmap.mmap) -> None:
    """Take one task a round, unless it is sealed; for ever."""
    words = memoryview(memory).cast("Q")[TABLE_BYTES // 8 :]
    table = SharedTable(memoryview(memory)[:TABLE_BYTES], threading.Lock())
    half = ExecutorHalf(executor="e", binding=1, session=7, pid=1, table=table)
    lengths = array("I", (0,)).tobytes()
    for number in count(1):
        half._queue.clear()
        half.received(Welcome(store_id="s", epoch=number))
        message = AssignTasks(attempt=2, first=number, count=1, lengths=lengths, blob=b"")
        words[_READY] = number
        spin(words, _OVER, 2 * number - 1)
        late_by(number % _SWEEP)
        half.received(message)
        words[_TAKEN] = 0 if half.idle else number
        words[_READY + 8] = number
        spin(words, _OVER, 2 * number)


def play_node(memory: mmap.mmap, fence: threading.Lock) -> tuple[int, int, list[int]]:
    """Join a later session manager each round: how many rounds, in how many the task was taken, which were wrong."""
    words = memoryview(memory).cast("Q")[TABLE_BYTES // 8 :]
    table = SharedTable(memoryview(memory)[:TABLE_BYTES], fence)
    node: NodeHalf = make_node()
    node.received(Welcome(store_id="s", epoch=1), 0)
    node.received(bind("e"), 0)
    node.opened("e", 1, table, "/log")
    node.started("e", 1, 50)
    taken = late = number = 0
    step = 64
    wrong: list[int] = []
    until = time.monotonic() + SPAN_S
    while time.monotonic() < until or (min(taken, number - taken) < LEAST and time.monotonic() < until + _PATIENCE_S):
        number += 1
        spin(words, _READY, number)
        node.disconnected()
        welcome = Welcome(store_id="s", epoch=number + 1)
        words[_OVER] = 2 * number - 1
        late_by(late)
        (join,) = node.received(welcome, 0)
        spin(words, _READY + 8, number)
        assert isinstance(join, JoinNode)
        told = any(held.first == number for held in join.executors[0].held or ())
        forestalled = words[_TAKEN] != number
        late += step if forestalled else -step
        if not forestalled:
            step = max(1, step // 2)
            taken += 1
            if not told:
                wrong.append(number)
        words[_OVER] = 2 * number
    return number, taken, wrong


@pytest.mark.alone
def test_what_is_taken_is_what_was_told(request: pytest.FixtureRequest) -> None:
    memory = mmap.mmap(-1, 2 * TABLE_BYTES)
    child = os.fork()
    if not child:
        try:
            play_executor(memory)
        finally:
            os._exit(0)
    request.addfinalizer(lambda: os.waitpid(child, 0))
    request.addfinalizer(lambda: os.kill(child, 9))
    rounds, taken, wrong = play_node(memory, threading.Lock())
    assert not wrong, f"{len(wrong)} of {rounds} tasks were taken and not told"
    if min(taken, rounds - taken) < LEAST:
        pytest.skip(f"the processes did not meet, for want of two free processors: {taken} taken in {rounds} rounds")


class Meeting:
    """A fence at which the other side does something: whoever passes it has written before, and reads after."""

    def __init__(self, other_side: Callable[[], None]) -> None:
        self._other_side = other_side

    def __enter__(self) -> None:
        self._other_side()

    def __exit__(self, *exception: object) -> None:
        pass


def test_the_node_reads_what_is_held_behind_the_fence_and_has_sealed_before_it() -> None:
    memory = memoryview(bytearray(TABLE_BYTES))
    executor = SharedTable(memory)
    seen: list[bool] = []

    def take() -> None:
        seen.append(executor.sealed(2))
        executor.hold([HeldRange(2, 1, 1)])

    node = make_node()
    node.received(Welcome(store_id="s", epoch=1), 0)
    node.received(bind("e"), 0)
    node.opened("e", 1, SharedTable(memory, Meeting(take)), "/log")
    node.disconnected()
    seen.clear()
    executor.hold([])
    (join,) = node.received(Welcome(store_id="s", epoch=3), 0)
    assert isinstance(join, JoinNode)
    assert seen == [True]
    assert join.executors[0].held == (HeldRange(2, 1, 1),)


def test_the_executor_reads_the_seal_behind_the_fence_and_holds_before_it() -> None:
    memory = memoryview(bytearray(TABLE_BYTES))
    node = SharedTable(memory)
    seen: list[object] = []

    def join() -> None:
        node.seal(2)
        seen.append(node.held())

    half = ExecutorHalf(executor="e", binding=1, session=7, pid=1, table=SharedTable(memory, Meeting(join)))
    half.received(Welcome(store_id="s", epoch=1))
    half.received(AssignTasks(attempt=2, first=1, count=1, lengths=bytes(4), blob=b""))
    assert half.idle, "it was sealed"
    assert seen == [(HeldRange(2, 1, 1),)], "and told, which the next attach takes back"
    assert node.held() == ()
