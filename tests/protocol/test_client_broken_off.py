"""A call on a block is broken off at any point, as by Ctrl-C: nothing that was submitted is lost or comes twice."""

import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest

from flame.model.limits import SUBMIT_WINDOW_BYTES
from flame.protocol import client_submission
from flame.protocol.client_submission import LONE_TASKS, Feed, Submission
from tests.protocol.test_client import Collector, Wire

CHUNK_TASKS = 5
Call = Callable[[Submission, Feed], object]


class BrokenOff(BaseException):
    """What a signal's handler raises."""


def break_off(at: int, do: Callable[[], object]) -> bool:
    """Do something, and raise before the module's instruction of this number; return whether it came so far."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != client_submission.__file__:
            return None
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        if seen == at:
            raise BrokenOff
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    except BrokenOff:
        return True
    finally:
        sys.settrace(before)
    return False


def draw(block: Submission, feed: Feed) -> None:
    """As the owner of a map, which ends with what broke it off."""
    feed.items += [b"mapped%d" % number for number in range(7)]
    try:
        block.draw(feed, all_of_it=True)
    except BaseException:
        feed.items.clear()
        raise


CALLS: dict[str, tuple[int, Call]] = {
    "the first": (0, lambda block, _: block.add(b"new")),
    "one that goes at once": (LONE_TASKS - 1, lambda block, _: block.add(b"new")),
    "one that waits": (LONE_TASKS + 2, lambda block, _: block.add(b"new")),
    "one that fills a chunk": (LONE_TASKS + CHUNK_TASKS - 1, lambda block, _: block.add(b"new")),
    "flush": (LONE_TASKS + 2, lambda block, _: block.flush()),
    "a map": (LONE_TASKS + 2, draw),
    "a map alone": (0, draw),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_broken_off_leaves_a_block_that_is_whole(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_submission, "MAX_CHUNK_TASKS", CHUNK_TASKS)
    tasks, do = CALLS[call]
    for at in count(1):
        wire = Wire()
        futures, mapped = Collector(), Collector()
        block = wire.submission(futures)
        feed = Feed(mapped)
        block.feeds.append(feed)
        inputs = {block.add(b"before%d" % number): b"before%d" % number for number in range(tasks)}
        if not break_off(at, lambda block=block, feed=feed: do(block, feed)):  # type: ignore[misc]
            assert at > 10
            return
        block.mend()
        wire.cut()
        inputs |= {block.add(b"after%d" % number): b"after%d" % number for number in range(3)}
        assert len(inputs) == tasks + 3, "an id was given twice"
        block.flush()
        wire.settle()
        for task, task_input in inputs.items():
            assert futures.outcomes.pop(task) == task_input.upper()
        assert set(futures.outcomes.values()) <= {b"NEW"}
        assert len(mapped.outcomes) == len(set(mapped.outcomes.values()))
        assert not futures.failed
        assert not mapped.failed
        assert block.outstanding == 0
        assert not block.buffered
        assert block.room_bytes() == SUBMIT_WINDOW_BYTES
        assert len(futures.outcomes) + len(mapped.outcomes) + len(inputs) == block.next_id - block.first
