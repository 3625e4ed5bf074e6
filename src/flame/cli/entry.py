"""Where the installed commands begin: Ctrl-C ends them without a traceback, also while they are still importing."""

import os
import signal
from importlib import import_module
from types import FrameType

_INTERRUPTED = 130


def flame() -> None:
    """The command `flame`."""
    _start("flame.cli.flame")


def flmctl() -> None:
    """The command `flmctl`."""
    _start("flame.cli.flmctl")


def flmping() -> None:
    """The command `flmping`."""
    _start("flame.cli.flmping")


def _start(module: str) -> None:
    # Who was started with it ignored, in the background of a script, goes on ignoring it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    import_module(module).main()


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)  # nothing has been begun, so there is nothing to undo


def hear_ctrl_c() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`: there is something to undo. Call from the main thread."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
