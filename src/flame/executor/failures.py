"""Exceptions of user code as `FailureRecord`s: with the user's frames of the traceback, without ours."""

import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

from flame.model.errors import FailureRecord
from flame.model.limits import MAX_ERROR_CHARS

SCRIPT_MODULE: Final = "__flame_service__"
"""The name under which a service's script is imported."""

_OURS: Final = str(Path(__file__).parent)
_CUT: Final = "[...]\n"


def failure_of(error: BaseException, prefix: str = "") -> FailureRecord:
    """What is told about an exception.

    Args:
        error: what user code raised.
        prefix: what was being done, put before the message.
    """
    try:
        message = str(error)
    except BaseException as second:  # a user's __str__ may fail too
        message = f"(its message cannot be shown: {type(second).__name__})"
    return FailureRecord(
        message=(f"{prefix}: {message}" if prefix and message else prefix or message)[:MAX_ERROR_CHARS],
        type=type_name(type(error)),
        traceback=_traceback(error),
    )


def type_name(kind: type) -> str:
    """The qualified name of a type, as the user knows it."""
    try:
        module, name = kind.__module__, kind.__qualname__
    except BaseException:  # its metaclass is the user's too
        return "Exception"
    return name if module in ("builtins", SCRIPT_MODULE) else f"{module}.{name}"


def _traceback(error: BaseException) -> str:
    try:
        shown = traceback.TracebackException(type(error), error, _users(error.__traceback__), compact=True)
        text = "".join(shown.format())
    except BaseException as second:
        text = f"(the traceback cannot be shown: {type(second).__name__})"
    if len(text) > MAX_ERROR_CHARS:
        text = _CUT + text[len(_CUT) - MAX_ERROR_CHARS :]
    return text


def _users(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is neither ours nor the import system's; all of it if there is none."""
    frame = trace
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if not name.startswith((_OURS, "<frozen importlib")) and "/importlib/" not in name:
            return frame
        frame = frame.tb_next
    return None
