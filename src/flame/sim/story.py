"""Lines of a trace, and the story of a task or a session that they tell."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

_RANGE = re.compile(r"\bfirst=(\d+) count=(\d+)")
_HELD = re.compile(r"Range\((?:attempt=\d+, )?first=(\d+), count=(\d+)\)")
_SESSION = re.compile(r"\bsession[= ](\d+)")
_EXECUTOR = re.compile(r"executor=?'([^']+)'|executor \('([^']+)'|^\S+ to \d+ \(([^)]+)\)")


def explain(trace: Iterable[str], what: str) -> Iterator[str]:
    """The lines that tell what became of `SESSION` or `SESSION:TASK`, and all faults.

    Args:
        trace: lines of a trace.
        what: number of the session, and of the task in it.

    Example:
        >>> list(explain(["1.0 stored PutChunk session=3 first=1 count=9", "2.0 something else"], "3:5"))
        ['1.0 stored PutChunk session=3 first=1 count=9']
    """
    number, _, task = what.partition(":")
    of_executor: dict[str, str] = {}
    for line in trace:
        executor = _EXECUTOR.search(line)
        name = next((group for group in executor.groups() if group), "") if executor else ""
        session = _SESSION.search(line)
        if name and session:
            of_executor[name] = session[1]
        about = session[1] if session else of_executor.get(name, "")
        if "fault:" in line or " manager " in line or (about == number and (not task or _tells(line, int(task)))):
            yield line


def _tells(line: str, task: int) -> bool:
    if re.search(rf"\b(runs|current|task)[= ]{task}\b", line):
        return True
    ranges = [*_RANGE.findall(line), *_HELD.findall(line)]
    return any(int(first) <= task < int(first) + int(count) for first, count in ranges)


def brief(value: Any) -> str:
    """A message or write on one line, without payloads."""
    record = getattr(value, "record", value)
    hidden = ("lengths", "blob", "spec", "common_data", "payload", "error")
    fields = [f"{name}={getattr(record, name)!r}" for name in record.__struct_fields__ if name not in hidden]
    return f"{type(value).__name__} {' '.join(fields)}"
