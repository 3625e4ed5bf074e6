"""A good history passes; each rule catches the bad one made for it, and says which task, whose and when."""

from collections.abc import Callable

import pytest

from flame.sim.history import (
    CANCELLED,
    DIED,
    NOT_STARTED,
    RAISED,
    SESSION_MANAGER,
    History,
    Rule,
    Violation,
    digest,
)

MS = 1_000_000
END = 10_000 * MS
Story = Callable[[History], None]


def begin(history: History, count: int = 3) -> None:
    """A client submits tasks 1 to `count` of session `s`, and they are acknowledged; executor `e` is bound."""
    history.submitted(1 * MS, "s", "c", 1, [digest(b"in %d" % task) for task in range(1, count + 1)])
    history.acknowledged(2 * MS, "s", "c", 1, count)
    history.bound(2 * MS, "s", "e", 1, node="n")


def run(history: History, at_ns: int, task: int, executor: str = "e", binding: int = 1) -> None:
    """A process runs a task."""
    history.started(at_ns, "s", task, executor, binding, input=digest(b"in %d" % task))
    history.ended(at_ns + 1, "s", task, executor, binding, digest(b"out %d" % task))


def outputs(first: int, count: int) -> list[int]:
    return [digest(b"out %d" % task) for task in range(first, first + count)]


def finish(history: History, at_ns: int = 20 * MS, count: int = 3) -> None:
    """The client sees everything, and the store has it."""
    history.saw(at_ns, "s", "c", 1, outputs(1, count), sequence=1)
    history.finished("s", "c")
    history.stored(at_ns + 1, "s", 1, 1, outputs(1, count))


def good(history: History) -> None:
    begin(history)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    finish(history)


def found(story: Story) -> list[Violation]:
    history = History()
    story(history)
    return history.check(END, patience_ns=100 * MS)


def test_a_good_history_passes() -> None:
    history = History()
    history.node("n", 1)
    history.session("s", max_instances=1)
    good(history)
    history.died(30 * MS, "e", 1, well=True)
    history.healed(15 * MS)
    assert history.check(END, patience_ns=100 * MS) == []
    assert history.counts["started"] == history.counts["seen"] == 3
    assert not history.again


# --- bad histories: the rule, the task, and what happened ------------------------------------------------------------


def lost_in_the_store(history: History) -> None:
    begin(history)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 3), sequence=1)
    history.stored(21 * MS, "s", 1, 1, outputs(1, 2))


def lost_for_the_client(history: History) -> None:
    begin(history)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 2), sequence=1)
    history.finished("s", "c")
    history.stored(21 * MS, "s", 1, 1, outputs(1, 3))


def lost_for_a_reader(history: History) -> None:
    good(history)
    history.saw(30 * MS, "s", "r", 1, outputs(1, 2), sequence=1)
    history.finished("s", "r")


def lost_for_everybody(history: History) -> None:
    begin(history, 2)
    run(history, 3 * MS, 1)
    history.saw(4 * MS, "s", "c", 1, outputs(1, 1), sequence=1)


def refused_after_all(history: History) -> None:
    good(history)
    history.refused(30 * MS, "s", "c", 3, 1)


def seen_twice(history: History) -> None:
    good(history)
    history.saw(30 * MS, "s", "c", 2, outputs(2, 1), sequence=1)


def stored_twice(history: History) -> None:
    good(history)
    history.stored(30 * MS, "s", 2, 3, outputs(3, 1))


def segments_with_a_gap(history: History) -> None:
    good(history)
    history.stored(30 * MS, "s", 3, 3, outputs(3, 1))


def segments_backwards(history: History) -> None:
    begin(history)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 1), sequence=2)
    history.saw(21 * MS, "s", "c", 2, outputs(2, 2), sequence=1)


def another_result_for_another_reader(history: History) -> None:
    good(history)
    history.saw(30 * MS, "s", "r", 1, [*outputs(1, 1), digest(b"else")], sequence=1)


def another_segment_for_another_reader(history: History) -> None:
    good(history)
    history.saw(30 * MS, "s", "r", 2, outputs(2, 1), sequence=5)


def outcome_of_nothing(history: History) -> None:
    good(history)
    history.saw(30 * MS, "s", "c", 4, outputs(4, 1), sequence=2)


def acknowledged_of_nothing(history: History) -> None:
    good(history)
    history.acknowledged(30 * MS, "s", "c", 1, 4)


def cancelled_of_nothing(history: History) -> None:
    good(history)
    history.cancelled(30 * MS, "s", 4, 1)


def started_of_nothing(history: History) -> None:
    good(history)
    run(history, 30 * MS, 4)


def submitted_twice(history: History) -> None:
    good(history)
    history.submitted(30 * MS, "s", "d", 3, [digest(b"in 3")])


def output_of_another_task(history: History) -> None:
    begin(history, 2)
    run(history, 3 * MS, 1)
    run(history, 4 * MS, 2)
    history.saw(20 * MS, "s", "c", 1, outputs(2, 1) + outputs(1, 1), sequence=1)


def output_of_nobody(history: History) -> None:
    begin(history, 2)
    run(history, 3 * MS, 1)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 2), sequence=1)


def failure_of_nobody(history: History) -> None:
    begin(history, 1)
    run(history, 3 * MS, 1)
    history.saw(20 * MS, "s", "c", 1, [RAISED], sequence=1)


def too_few_deaths(history: History) -> None:
    begin(history, 1)
    for binding in (1, 2):
        history.started(3 * MS * binding, "s", 1, "e", binding)
        history.died(3 * MS * binding + 1, "e", binding)
    history.saw(20 * MS, "s", "c", 1, [DIED], sequence=1)


def too_few_failed_starts(history: History) -> None:
    begin(history, 1)
    for _ in range(4):
        history.start_failed("s")
    history.saw(20 * MS, "s", "c", 1, [NOT_STARTED], sequence=1)


def cancelled_by_nobody(history: History) -> None:
    begin(history, 1)
    history.cancel_asked("s", 2, 5)
    history.saw(20 * MS, "s", "c", 1, [CANCELLED], sequence=1)


def cancelled_and_yet_an_output(history: History) -> None:
    begin(history, 2)
    history.cancel_asked("s", 2, 1)
    history.cancelled(3 * MS, "s", 2, 1)
    run(history, 4 * MS, 1)
    run(history, 5 * MS, 2)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 2), sequence=1)


def cancelled_and_yet_run(history: History) -> None:
    begin(history, 1)
    history.cancel_asked("s", 1, 1)
    run(history, 3 * MS, 1)
    history.saw(20 * MS, "s", "c", 1, [CANCELLED], sequence=1)


def another_input(history: History) -> None:
    begin(history, 1)
    history.started(3 * MS, "s", 1, "e", 1, input=digest(b"in 2"))
    history.ended(4 * MS, "s", 1, "e", 1, digest(b"out 1"))
    finish(history, count=1)


def ended_and_never_started(history: History) -> None:
    good(history)
    history.ended(30 * MS, "s", 1, "e", 1, digest(b"out 1"))


def run_by_two(history: History) -> None:
    begin(history, 1)
    history.bound(2 * MS, "s", "f", 2)
    run(history, 3 * MS, 1)
    run(history, 4 * MS, 1, "f", 2)
    finish(history, count=1)


def run_twice_by_one(history: History) -> None:
    begin(history, 1)
    run(history, 3 * MS, 1)
    run(history, 4 * MS, 1)
    finish(history, count=1)


def run_again_after_a_good_end(history: History) -> None:
    begin(history, 1)
    run(history, 3 * MS, 1)
    history.died(4 * MS, "e", 1, well=True)
    run(history, 5 * MS, 1, "f", 2)
    finish(history, count=1)


def run_again_though_only_the_session_manager_was_killed(history: History) -> None:
    begin(history, 1)
    run(history, 3 * MS, 1)
    history.fault(4 * MS, SESSION_MANAGER)
    history.unsure(5 * MS, "e", 1, "its stream was not read")
    run(history, 6 * MS, 1, "f", 2)
    finish(history, count=1)


def run_again_and_the_first_is_seen_again(history: History) -> None:
    begin(history, 2)
    history.fault(3 * MS, "executor manager")
    run(history, 3 * MS, 1)
    run(history, 4 * MS, 1, "f", 2)
    run(history, 5 * MS, 2)
    finish(history, count=2)


def run_in_two_sessions(history: History) -> None:
    begin(history, 1)
    history.submitted(2 * MS, "t", "c", 1, [digest(b"in 1")])
    history.started(3 * MS, "t", 1, "e", 1)
    run(history, 4 * MS, 1)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 1), sequence=1)


def run_after_its_result_by_a_new_one(history: History) -> None:
    good(history)
    history.fault(21 * MS, "node")
    history.died(22 * MS, "e", 1)
    history.bound(23 * MS, "s", "f", 2)
    history.unsure(23 * MS, "f", 2, "its node was away")
    run(history, 24 * MS, 1, "f", 2)


def run_after_its_result_by_one_that_is_known(history: History) -> None:
    begin(history)
    history.bound(2 * MS, "s", "f", 2)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    finish(history)
    history.died(22 * MS, "e", 1)
    run(history, 24 * MS, 1, "f", 2)


def run_after_the_lease(history: History) -> None:
    begin(history, 2)
    run(history, 3 * MS, 1)
    history.lease_ended(4 * MS, "e", 1)
    run(history, 5 * MS, 2)
    finish(history, count=2)


def run_after_the_lease_that_it_knows(history: History) -> None:
    begin(history, 1)
    history.started(5 * MS, "s", 1, "e", 1, lease_end_ns=4 * MS)
    history.ended(6 * MS, "s", 1, "e", 1, digest(b"out 1"))
    finish(history, count=1)


def alive_after_the_lease(history: History) -> None:
    begin(history, 1)
    history.started(3 * MS, "s", 1, "e", 1)
    history.lease_ended(4 * MS, "e", 1, gone=True)


def too_few_deaths_of_its_own(history: History) -> None:
    begin(history, 1)
    for binding in (1, 2, 3):
        history.started(3 * MS * binding, "s", 1, "e", binding)
        history.died(3 * MS * binding + 1, "e", binding, killed=binding == 2, charged=1)
    history.saw(20 * MS, "s", "c", 1, [DIED], sequence=1)


def run_after_death(history: History) -> None:
    begin(history, 1)
    history.died(3 * MS, "e", 1)
    run(history, 5 * MS, 1)
    finish(history, count=1)


def the_same_attempt_again(history: History) -> None:
    begin(history, 1)
    for binding in (1, 2):
        history.started(3 * MS * binding, "s", 1, "e", binding, attempt=7)
        history.ended(3 * MS * binding + 1, "s", 1, "e", binding, digest(b"out 1"))
        history.died(3 * MS * binding + 1, "e", binding)
    finish(history, count=1)


def a_smaller_attempt_later(history: History) -> None:
    begin(history, 1)
    for binding in (1, 2):
        history.started(3 * MS * binding, "s", 1, "e", binding, attempt=9 - binding)
        history.ended(3 * MS * binding + 1, "s", 1, "e", binding, digest(b"out 1"))
        history.died(3 * MS * binding + 1, "e", binding)
    finish(history, count=1)


def refused_and_yet_run(history: History) -> None:
    history.submitted(1 * MS, "s", "c", 1, [digest(b"in 1")])
    history.refused(2 * MS, "s", "c", 1, 1, not_stored=True)
    run(history, 3 * MS, 1)
    history.stored(4 * MS, "s", 1, 1, outputs(1, 1))


def too_many_in_a_session(history: History) -> None:
    history.session("s", max_instances=1)
    good(history)
    history.bound(4 * MS, "s", "f", 2)
    history.died(6 * MS, "f", 2)


def too_many_on_a_node(history: History) -> None:
    history.node("n", 2)
    good(history)
    history.bound(4 * MS, "t", "f", 2, node="n", places=2)
    history.died(6 * MS, "f", 2)


def too_late(history: History) -> None:
    history.healed(1 * MS)
    begin(history)
    for task in (1, 2, 3):
        run(history, (2 + task) * MS, task)
    finish(history, at_ns=500 * MS)


@pytest.mark.parametrize(
    ("rule", "task", "story"),
    [
        (Rule.LOST, 3, lost_in_the_store),
        (Rule.LOST, 3, lost_for_the_client),
        (Rule.LOST, 3, lost_for_a_reader),
        (Rule.LOST, 2, lost_for_everybody),
        (Rule.LOST, 3, refused_after_all),
        (Rule.TWO_RESULTS, 2, seen_twice),
        (Rule.TWO_RESULTS, 3, stored_twice),
        (Rule.ORDER, 3, segments_with_a_gap),
        (Rule.ORDER, 2, segments_backwards),
        (Rule.RESULT_DIFFERS, 2, another_result_for_another_reader),
        (Rule.RESULT_DIFFERS, 2, another_segment_for_another_reader),
        (Rule.UNKNOWN_TASK, 4, outcome_of_nothing),
        (Rule.UNKNOWN_TASK, 4, acknowledged_of_nothing),
        (Rule.UNKNOWN_TASK, 4, cancelled_of_nothing),
        (Rule.UNKNOWN_TASK, 4, started_of_nothing),
        (Rule.UNKNOWN_TASK, 3, submitted_twice),
        (Rule.WRONG_OUTCOME, 1, output_of_another_task),
        (Rule.WRONG_OUTCOME, 2, output_of_nobody),
        (Rule.WRONG_OUTCOME, 1, failure_of_nobody),
        (Rule.WRONG_OUTCOME, 1, too_few_deaths),
        (Rule.WRONG_OUTCOME, 1, too_few_failed_starts),
        (Rule.WRONG_OUTCOME, 1, cancelled_by_nobody),
        (Rule.WRONG_OUTCOME, 2, cancelled_and_yet_an_output),
        (Rule.WRONG_OUTCOME, 1, ended_and_never_started),
        (Rule.WRONG_OUTCOME, 1, refused_and_yet_run),
        (Rule.RAN_AND_CANCELLED, 1, cancelled_and_yet_run),
        (Rule.WRONG_INPUT, 1, another_input),
        (Rule.RAN_TWICE, 1, run_by_two),
        (Rule.RAN_TWICE, 1, run_twice_by_one),
        (Rule.RAN_TWICE, 1, run_again_after_a_good_end),
        (Rule.RAN_TWICE, 1, run_again_though_only_the_session_manager_was_killed),
        (Rule.RAN_TWICE, 1, run_again_and_the_first_is_seen_again),
        (Rule.RAN_TWICE, 1, run_in_two_sessions),
        (Rule.RAN_AFTER_RESULT, 1, run_after_its_result_by_a_new_one),
        (Rule.RAN_AFTER_RESULT, 1, run_after_its_result_by_one_that_is_known),
        (Rule.RAN_AFTER_LEASE, 2, run_after_the_lease),
        (Rule.RAN_AFTER_LEASE, 1, run_after_the_lease_that_it_knows),
        (Rule.RAN_AFTER_END, 1, run_after_death),
        (Rule.OUTLIVED, 1, alive_after_the_lease),
        (Rule.WRONG_OUTCOME, 1, too_few_deaths_of_its_own),
        (Rule.ATTEMPT, 1, the_same_attempt_again),
        (Rule.ATTEMPT, 1, a_smaller_attempt_later),
        (Rule.CAPACITY, 0, too_many_in_a_session),
        (Rule.CAPACITY, 0, too_many_on_a_node),
        (Rule.PROGRESS, 0, too_late),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bad_history_is_caught(rule: Rule, task: int, story: Story) -> None:
    violations = found(story)
    assert (rule, task) in [(violation.rule, violation.task) for violation in violations], violations
    assert all(str(violation).startswith(f"{violation.rule}: ") for violation in violations)


# --- what is allowed -------------------------------------------------------------------------------------------------


def again_after_death(history: History) -> None:
    begin(history, 1)
    history.started(3 * MS, "s", 1, "e", 1)
    history.died(4 * MS, "e", 1, cause="killed")
    run(history, 5 * MS, 1, "f", 2)
    finish(history, count=1)


def again_after_the_lease(history: History) -> None:
    begin(history, 1)
    history.started(3 * MS, "s", 1, "e", 1)
    history.lease_ended(4 * MS, "e", 1)
    run(history, 5 * MS, 1, "f", 2)
    history.ended(6 * MS, "s", 1, "e", 1, digest(b"out 1"))
    finish(history, count=1)


def again_beside_an_unsure_one(history: History) -> None:
    begin(history, 1)
    history.fault(3 * MS, "network")
    history.unsure(3 * MS, "e", 1, "cut off")
    run(history, 4 * MS, 1, "f", 2)
    history.saw(5 * MS, "s", "c", 1, outputs(1, 1), sequence=1)
    run(history, 6 * MS, 1)
    history.finished("s", "c")


def again_on_an_unsure_one_after_a_good_end(history: History) -> None:
    begin(history, 1)
    history.fault(3 * MS, "network")
    history.unsure(3 * MS, "e", 1, "cut off")
    run(history, 4 * MS, 1, "f", 2)
    history.died(5 * MS, "f", 2, well=True)
    run(history, 6 * MS, 1)
    finish(history, count=1)


def again_on_the_same_unsure_one(history: History) -> None:
    begin(history, 1)
    history.fault(3 * MS, "network")
    run(history, 3 * MS, 1)
    history.unsure(4 * MS, "e", 1, "cut off")
    run(history, 6 * MS, 1)
    finish(history, count=1)


def again_after_one_of_which_nothing_is_known(history: History) -> None:
    begin(history, 1)
    history.fault(3 * MS, "executor manager")
    history.started(3 * MS, "s", 1, "e", 1)
    run(history, 5 * MS, 1, "f", 2)
    finish(history, count=1)


@pytest.mark.parametrize(
    ("story", "why"),
    [
        (again_after_death, "killed"),
        (again_after_the_lease, "the lease was over"),
        (again_beside_an_unsure_one, "cut off"),
        (again_on_an_unsure_one_after_a_good_end, "cut off"),
        (again_on_the_same_unsure_one, "cut off"),
        (again_after_one_of_which_nothing_is_known, "it was never heard of again"),
    ],
)
def test_a_second_run_that_could_not_be_avoided_is_counted_by_its_reason(story: Story, why: str) -> None:
    history = History()
    story(history)
    assert history.check(END) == []
    assert history.again == {why: 1}


def test_a_task_that_kills_its_processes_fails_after_three() -> None:
    history = History()
    begin(history, 1)
    for binding in (1, 2, 3):
        history.started(3 * MS * binding, "s", 1, "e", binding, attempt=binding)
        history.died(3 * MS * binding + 1, "e", binding, cause="it aborted")
    history.saw(20 * MS, "s", "c", 1, [DIED], sequence=1)
    assert history.check(END) == []
    assert history.again == {"it aborted": 3}


def test_a_death_between_two_tasks_counts_for_those_it_may_be_charged_to() -> None:
    history = History()
    begin(history, 3)
    for binding in (1, 2, 3):
        for task in (1, 2):
            run(history, 3 * MS * binding + task, task, "e", binding)
        history.died(3 * MS * binding + 9, "e", binding, charged=1, or_charged=2)
    history.saw(20 * MS, "s", "c", 1, [DIED, DIED, DIED], sequence=1)
    assert [(violation.rule, violation.task) for violation in history.check(END)] == [(Rule.WRONG_OUTCOME, 3)]


def test_tasks_that_are_cancelled_or_fail_are_no_loss() -> None:
    history = History()
    begin(history, 3)
    history.close_asked("s")
    history.started(3 * MS, "s", 1, "e", 1)
    history.ended(4 * MS, "s", 1, "e", 1, RAISED)
    history.cancelled(5 * MS, "s", 2, 2)
    history.saw(20 * MS, "s", "c", 1, [RAISED, CANCELLED, CANCELLED], sequence=1)
    history.finished("s", "c")
    assert history.check(END) == []


def test_what_was_never_acknowledged_may_be_refused_and_what_was_deleted_may_be_gone() -> None:
    history = History()
    begin(history, 1)
    history.submitted(3 * MS, "s", "c", 2, [digest(b"in 2")])
    history.refused(4 * MS, "s", "c", 2, 1)
    run(history, 5 * MS, 1)
    history.saw(20 * MS, "s", "c", 1, outputs(1, 1), sequence=1)
    history.finished("s", "c")
    history.deleted("s")
    history.stored(21 * MS, "s", 1, 1, outputs(1, 1))
    assert history.check(END) == []


def test_an_executor_counts_until_its_lease_is_over() -> None:
    history = History()
    history.session("s", max_instances=1)
    begin(history, 1)
    history.lease_ended(5 * MS, "e", 1)
    run(history, 6 * MS, 1, "f", 2)
    history.ended(9 * MS, "s", 7, "e", 1, RAISED)
    finish(history, count=1)
    assert [violation.rule for violation in history.check(END)] == [Rule.WRONG_OUTCOME]


def test_an_executor_whose_lease_may_be_over_counts_no_longer() -> None:
    history = History()
    history.session("s", max_instances=1)
    begin(history, 2)
    run(history, 3 * MS, 1)
    history.uncounted(4 * MS, "e", 1)
    run(history, 5 * MS, 2, "f", 2)
    history.bound(9 * MS, "s", "e", 1)
    finish(history, count=2)
    assert history.check(END) == []


def test_a_flood_of_violations_is_cut_and_counted() -> None:
    history = History()
    for task in range(1, 1_201):
        history.started(task, "s", task, "e", 1)
    violations = history.check(END)
    assert len(violations) == 1_001
    assert violations[-1].text == "and 200 more of all kinds"


def test_digests_tell_payloads_apart() -> None:
    assert len({digest(None), digest(b""), digest(b"a"), digest(b"b")}) == 4
    assert min(digest(None), digest(b"")) > max(CANCELLED, RAISED, DIED, NOT_STARTED)
    assert digest(b"a") == digest(b"a")
