"""How every command line ends: exit codes, and errors in one or two lines."""

import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from flame.cli.entry import hear_ctrl_c
from flame.model.errors import FlameError

OK = 0
FAILURE = 1
"""Something failed; for `flmping`, tasks did."""
USAGE = 2
"""The command line is wrong."""
NOT_RUNNING = 3
"""`flame status`: no cluster, or a part of it is missing."""
INTERRUPTED = 130
"""Ctrl-C."""

TRACEBACK = "FLAME_TRACEBACK"
"""Environment variable that shows where an error came from."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command as Ctrl-C does, with an exit code of its own: 128 and its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.exit_code = 128 + number


def end_like_ctrl_c(*numbers: signal.Signals) -> None:
    """Let these signals raise `Interrupted` from now on. Call from the main thread.

    One that was ignored before (`nohup` does that) stays ignored.
    """
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: FrameType | None) -> None:
    if number == signal.SIGHUP:  # the terminal is gone; it may say so twice, and what is written to it fails
        signal.signal(number, signal.SIG_IGN)
        for descriptor in (1, 2):
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    raise Interrupted(number)


def code_of(interrupt: BaseException | None) -> int:
    """The exit code of a command that was interrupted."""
    return interrupt.exit_code if isinstance(interrupt, Interrupted) else INTERRUPTED


def run(command: Callable[[], int]) -> int:
    """Run a command; return its exit code, also where it raises.

    Example:
        >>> run(lambda: 0)
        0
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started this closed it: from here on it goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        hear_ctrl_c()
        return command()
    except KeyboardInterrupt as interrupt:
        return code_of(interrupt)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except Exception as error:
        say_error(describe(error))
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        return FAILURE


def describe(error: Exception) -> str:
    """An error as text: what is wrong, and in parentheses what to do."""
    if isinstance(error, FlameError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error} (set {TRACEBACK}=1 to see where)"


def say_error(text: str) -> None:
    """Print `error: ...` on standard error."""
    print(f"error: {text}", file=sys.stderr, flush=True)
