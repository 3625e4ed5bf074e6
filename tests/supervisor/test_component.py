import os
import signal
import sys
from pathlib import Path

import pytest

from flame.supervisor.component import Component

EXITED_1 = 1 << 8
KILLED = signal.SIGKILL.value


def component(tmp_path: Path, *command: str) -> Component:
    return Component("session-manager", str(tmp_path), [sys.executable, *command], str(tmp_path / "log"))


def started(tmp_path: Path, now_s: float) -> Component:
    made = component(tmp_path, "-c", "pass")
    made.start(now_s, os.environ)
    os.waitpid(made.pid, 0)
    return made


def test_output_and_errors_go_to_the_log(tmp_path: Path) -> None:
    made = component(tmp_path, "-c", "import sys; print('out'); sys.exit('err')")
    made.start(0, os.environ)
    status = os.waitpid(made.pid, 0)[1]
    assert made.ended(status, 0) == "ended with exit code 1"
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_delay_doubles_up_to_ten_seconds(tmp_path: Path) -> None:
    made = component(tmp_path)
    delays = []
    for _ in range(9):
        made.adopt(1, 0)
        made.ended(KILLED, 0)
        delays.append(made.start_at_s)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])


@pytest.mark.parametrize(("alive_s", "delay_s"), [(0.9, 0.2), (1.0, 0.1), (60, 0.1)])
def test_one_that_lives_ten_times_as_long_as_it_was_waited_for_begins_anew(
    tmp_path: Path, alive_s: float, delay_s: float
) -> None:
    made = component(tmp_path)
    made.adopt(1, 0)
    made.ended(KILLED, 0)
    made.adopt(1, 100)
    made.ended(KILLED, 100 + alive_s)
    assert made.start_at_s == pytest.approx(100 + alive_s + delay_s)


def test_who_is_killed_every_few_seconds_is_there_again_at_once_each_time(tmp_path: Path) -> None:
    made = component(tmp_path)
    for second in range(0, 100, 2):
        made.adopt(1, second)
        made.ended(KILLED, second + 1.5)
        assert made.start_at_s == pytest.approx(second + 1.6)


def test_ending_by_itself_at_once_is_a_failure(tmp_path: Path) -> None:
    made = started(tmp_path, 0)
    made.ended(EXITED_1, 4)
    assert made.failure == "ended with exit code 1"


def test_being_killed_is_none(tmp_path: Path) -> None:
    made = started(tmp_path, 0)
    assert made.ended(KILLED, 1) == "killed by signal 9"
    assert made.failure == ""


def test_ending_by_itself_later_is_none(tmp_path: Path) -> None:
    made = started(tmp_path, 0)
    made.ended(EXITED_1, 6)
    assert made.failure == ""
    made.start(10, os.environ)
    os.waitpid(made.pid, 0)
    made.ended(EXITED_1, 10)
    assert made.failure == ""


def test_an_adopted_process_that_is_something_else_is_gone_and_gets_no_signal(tmp_path: Path) -> None:
    made = component(tmp_path)
    made.adopt(os.getpid(), 0)
    assert made.gone()
    made.send(signal.SIGKILL)  # would end this test


def test_a_signal_to_one_that_does_not_run_does_nothing(tmp_path: Path) -> None:
    component(tmp_path).send(signal.SIGKILL)


def test_one_that_has_worked_may_end_by_itself_at_once(tmp_path: Path) -> None:
    made = started(tmp_path, 0)
    made.settle()
    made.ended(EXITED_1, 1)
    assert made.failure == ""
    assert made.start_at_s == pytest.approx(1.1)


def test_one_that_cannot_be_started_fails_or_once_it_has_worked_is_tried_ever_later(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    made = component(tmp_path)
    told = made.start(0, os.environ)
    assert told == made.failure == f"cannot be started with its log {tmp_path}/log: Is a directory"
    made = component(tmp_path)
    made.settle()
    delays = []
    for _ in range(3):
        made.start(100, os.environ)
        assert (made.pid, made.failure) == (0, "")
        delays.append(made.start_at_s - 100)
    assert delays == pytest.approx([0.1, 0.2, 0.4])
    (tmp_path / "log").rmdir()
    assert made.start(200, os.environ) == f"started (pid {made.pid})"
    os.waitpid(made.pid, 0)
