"""Errors: one tree, the same as data, and they survive a trip to another process."""

import pickle

import pytest

from flame.model import errors
from flame.model.errors import FailureRecord, FlameError, Rejection, TaskFailed


def every_class() -> list[type[FlameError]]:
    found: list[type[FlameError]] = []
    queue: list[type[FlameError]] = [FlameError]
    while queue:
        kind = queue.pop()
        if kind.__module__ == errors.__name__:
            found.append(kind)
        queue.extend(kind.__subclasses__())
    return found


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_says_whose_fault_it_is_and_is_drawn_in_the_tree(kind: type[FlameError]) -> None:
    assert kind.fault in ("caller", "task", "system")
    assert kind.__name__ in (errors.__doc__ or "")
    assert (kind.__doc__ or "").strip()


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[FlameError]) -> None:
    error = pickle.loads(pickle.dumps(kind("no session 'a'", hint="open it")))
    assert type(error) is kind
    assert (error.message, error.hint) == ("no session 'a'", "open it")


def test_the_text_of_an_error_is_what_is_wrong_and_what_to_do() -> None:
    assert str(errors.NotFound("no application 'a'", hint="register it")) == "no application 'a' (register it)"
    assert str(errors.NotFound("no application 'a'")) == "no application 'a'"


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidArgument,
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.TooLarge,
        errors.Unavailable,
        errors.ResourceExhausted,
        errors.Aborted,
        errors.Internal,
        errors.TaskCancelled,
    ],
)
def test_a_rejection_comes_back_as_the_error_it_was(kind: type[FlameError]) -> None:
    error = Rejection.of(kind("wrong", hint="do this")).to_error()
    assert type(error) is kind
    assert (error.message, error.hint) == ("wrong", "do this")


def test_a_rejection_with_an_unknown_code_is_a_cluster_error() -> None:
    assert type(Rejection("NEW_CODE", "wrong").to_error()) is errors.ClusterError


def test_retryable_errors_are_the_ones_that_time_may_heal() -> None:
    assert {kind for kind in every_class() if kind.retryable} == {errors.Unavailable, errors.ResourceExhausted}


def test_a_failed_task_keeps_the_remote_type_and_traceback_when_pickled() -> None:
    error = TaskFailed("boom", task_id=7, type="builtins.ValueError", traceback="Traceback: line 1")
    again = pickle.loads(pickle.dumps(error))
    assert (again.task_id, again.type, again.traceback) == (7, "builtins.ValueError", "Traceback: line 1")
    assert str(again).splitlines()[0] == "task 7: builtins.ValueError: boom"
    assert "Traceback: line 1" in str(again)


def test_a_failure_record_round_trips() -> None:
    record = FailureRecord(message="boom", type="ValueError", traceback="line 1\nline 2")
    assert FailureRecord.decode(record.encode()) == record


@pytest.mark.parametrize("data", [b"not json", b"", b"\xff\xfe", b"[1, 2]", b'{"x": ' + b"[" * 5_000])
def test_a_failure_that_is_no_record_is_shown_as_it_is(data: bytes) -> None:
    assert FailureRecord.decode(data).message == data.decode("utf-8", "replace")


def test_a_failure_whose_text_is_no_unicode_is_told_all_the_same() -> None:
    record = FailureRecord("bad file caf\udce9", type="ValueError", traceback="\udcff")
    assert FailureRecord.decode(record.encode()) == FailureRecord("bad file caf\\udce9", "ValueError", "\\udcff")
