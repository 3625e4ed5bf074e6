"""Runs: splitting, collecting and merging."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from flame.model.chunk import unpack
from flame.model.executor_messages import AssignTasks
from flame.model.ranges import HeldRange
from flame.model.states import TaskState
from flame.protocol.runs import Run, merged


def run_of(inputs: list[bytes], first: int = 10) -> Run:
    lengths = array("I", map(len, inputs)).tobytes()
    return Run.of(AssignTasks(attempt=3, first=first, count=len(inputs), lengths=lengths, blob=b"".join(inputs)))


def input_of(run: Run, task: int) -> bytes:
    return run.blob[run.offsets[task - run.base] : run.offsets[task - run.base + 1]]


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=20), st.integers(0, 25))
def test_a_split_run_keeps_its_inputs(inputs: list[bytes], place: int) -> None:
    run = run_of(inputs)
    tail = run.split(10 + place)
    runs = [run, tail] if tail else [run]
    assert [input_of(part, task) for part in runs for task in range(part.first, part.end)] == inputs


def test_an_outcome_covers_what_was_answered() -> None:
    run = run_of([b""] * 5)
    run.since_ns = 100
    run.outputs += [b"a", b"bb"]
    outcome = run.collect(150)
    assert (outcome.first, outcome.count, outcome.blob, outcome.busy_ns) == (10, 2, b"abb", 50)
    run.outputs.append(b"f")
    run.failed.append(12)
    outcome = run.collect(170)
    assert (outcome.first, outcome.count, outcome.state, outcome.states) == (12, 1, TaskState.FAILED, b"")
    assert (run.next, run.unreported) == (13, 13)


def test_an_output_may_be_none() -> None:
    run = run_of([b""] * 3)
    run.outputs += [b"a", None, b""]
    outcome = run.collect(0)
    assert unpack(outcome.lengths, outcome.blob) == [b"a", None, b""]


def test_neighbours_of_one_attempt_merge() -> None:
    ranges = [HeldRange(1, 1, 2), HeldRange(1, 3, 1), HeldRange(2, 4, 1), HeldRange(2, 6, 1)]
    assert merged(iter(ranges)) == [HeldRange(1, 1, 3), HeldRange(2, 4, 1), HeldRange(2, 6, 1)]
