"""Results: what is stored, who gets it, and windows that do not get stuck."""

import pytest

from flame.core.control.effects import ReadSegments, TellWatch
from flame.core.control.events import TaskWatchEnded, TaskWatchRequested
from flame.model.client_messages import AcknowledgeSegments, CancelTasks, Segment
from flame.model.limits import BLOCK_TASKS
from flame.model.states import TaskState
from tests.core.harness import Core, one_session


def finish(core: Core, count: int) -> None:
    for _ in range(count):
        core.report("1-1", 1)


def test_a_submitter_gets_the_results_of_its_own_block_and_a_reader_all() -> None:
    core = one_session(cpu=1, tasks=2)
    core.attach("b", "app-000001", create=None)
    first = core.session("app-000001").blocks[max(core.session("app-000001").blocks)].first
    core.submit("b", first, 2)
    core.attach("r", "app-000001", create=None, submit=False)
    core.start("1-1")
    core.take()
    finish(core, 4)
    got: dict[int, list[int]] = {}
    for effect in core.effects:
        message = getattr(effect, "message", None)
        if isinstance(message, Segment):
            got.setdefault(effect.link, []).append(message.first)  # type: ignore[union-attr]
    assert got == {
        core.links["a"]: [1, 2],
        core.links["b"]: [first, first + 1],
        core.links["r"]: [1, 2, first, first + 1],
    }


@pytest.mark.parametrize("window", [50, 100, 1_000])
def test_however_small_the_window_a_client_that_acknowledges_gets_everything_once_and_in_order(window: int) -> None:
    core = one_session(cpu=1, tasks=30, result_window_bytes=window)
    core.start("1-1")
    got: list[int] = []
    finish(core, 30)
    for _ in range(100):
        new = [segment.sequence for segment in core.sent(Segment)]
        core.take()
        if not new:
            break
        got.extend(new)
        core.client("a", AcknowledgeSegments(attachment=1, sequence=got[-1]))
    assert got == list(range(1, 31))


def test_a_client_that_comes_back_gets_what_it_has_not_seen() -> None:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    finish(core, 4)
    core.lose_client("a")
    finish(core, 4)
    core.take()
    core.attach("a", after=3)
    assert [segment.sequence for segment in core.sent(Segment)] == [4, 5, 6, 7, 8]
    finish(core, 2)
    assert [segment.sequence for segment in core.sent(Segment)] == list(range(4, 11))


def test_results_of_other_submitters_do_not_keep_a_client_behind() -> None:
    core = one_session(cpu=1, tasks=3)
    core.start("1-1")
    core.attach("b", "app-000001", create=None)
    core.submit("b", BLOCK_TASKS + 1, 1)
    core.lose_client("b")
    finish(core, 3)
    core.take()
    core.attach("b", "app-000001", create=None)
    assert not core.sent(Segment)
    reads = [effect for effect in core.effects if isinstance(effect, ReadSegments)]
    assert len(reads) == 1
    assert not core.state.attachments[core.links["b"], 1].behind


def test_a_long_cancelled_range_costs_no_more_of_the_window_than_its_row() -> None:
    core = one_session(tasks=1000)
    core.client("a", CancelTasks(attachment=1, request=1, first=1, count=1000))
    assert core.state.attachments[core.links["a"], 1].unseen_bytes < 100


def test_a_cancelled_task_stays_cancelled_whatever_its_executor_says() -> None:
    core = one_session(cpu=1, tasks=2)
    core.start("1-1")
    held = core.held("1-1")
    core.lose_node("n1")
    core.lose_executor("1-1")
    core.advance(40_000)
    core.client("a", CancelTasks(attachment=1, request=1, first=1, count=2))
    core.restart()
    core.join(cpu=1)
    assert held
    assert core.session("app-000001").cancelled == 2
    assert core.session("app-000001").unfinished == 0


def test_a_watch_is_told_when_a_task_starts_and_when_it_is_terminal() -> None:
    core = one_session(cpu=1, tasks=3)
    core.take()
    for watch, task in ((1, 1), (2, 3), (3, 99)):
        core.turn(TaskWatchRequested(watch=watch, session="app-000001", task=task))
    core.start("1-1")
    core.report("1-1", 1)
    core.turn(TaskWatchEnded(watch=2))
    core.report("1-1", 2)
    told = [(e.watch, e.last, e.error is not None) for e in core.effects if isinstance(e, TellWatch)]
    assert [entry for entry in told if entry[0] == 1] == [(1, False, False), (1, False, False), (1, True, False)]
    assert (2, True, False) not in told
    assert (3, True, True) in told
    core.turn(TaskWatchRequested(watch=4, session="app-000001", task=1))
    assert [e.last for e in core.effects if isinstance(e, TellWatch) and e.watch == 4] == [True]


def test_failed_and_succeeded_tasks_of_one_report_are_counted_apart() -> None:
    core = one_session(cpu=1, tasks=3)
    core.start("1-1")
    core.report("1-1", 1, TaskState.FAILED)
    core.report("1-1", 1)
    session = core.session("app-000001")
    assert (session.failed, session.succeeded) == (1, 1)
    core.restart()
    session = core.session("app-000001")
    assert (session.failed, session.succeeded) == (1, 1)
