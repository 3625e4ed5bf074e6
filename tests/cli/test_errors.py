import signal
import sys

import pytest

from flame.cli import errors
from flame.model.errors import InvalidArgument


def raising(error: BaseException) -> int:
    raise error


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run(lambda: 3) == 3
    assert errors.run(lambda: raising(KeyboardInterrupt())) == 130
    assert errors.run(lambda: raising(errors.Interrupted(15))) == 143
    assert errors.run(lambda: raising(InvalidArgument("no", hint="do this"))) == 1
    assert capsys.readouterr().err == "error: no (do this)\n"


def test_signals_end_a_command_like_ctrl_c_unless_they_are_ignored() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL), signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        errors.end_like_ctrl_c(signal.SIGUSR1, signal.SIGUSR2)
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert errors.code_of(caught.value) == 128 + signal.SIGUSR1
        signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_without_standard_output_and_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert errors.run(lambda: int(sys.stdout.isatty())) == 0
    assert errors.run(lambda: raising(ValueError("odd"))) == 1


def test_no_traceback_unless_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors.run(lambda: raising(ValueError("odd"))) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("FLAME_TRACEBACK", "1")
    assert errors.run(lambda: raising(ValueError("odd"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidArgument("a", hint="b"), "a (b)"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("k"), "KeyError: 'k' (set FLAME_TRACEBACK=1 to see where)"),
    ],
)
def test_errors_as_text(error: Exception, text: str) -> None:
    assert errors.describe(error) == text
