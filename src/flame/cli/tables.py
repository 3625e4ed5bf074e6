"""Tables of text that fit a terminal, and are whole where they are piped."""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime

_GAP = "  "
_INDENT = "  "


def render(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """A table with a header. Nothing is ever cut.

    Columns whose values are all numbers are set right. Where the table is wider than `width`, each row is folded into
    several lines, and so is the header.

    Args:
        columns: names of the columns.
        rows: values, as many per row as there are columns.
        width: characters of a line, or None for no bound.

    Example:
        >>> print(render(["ID", "Tasks"], [["a-1", 7]]))
        ID   Tasks
        a-1      7
    """
    cells = [[str(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(columns))]
    widths = [max(len(line[i]) for line in (columns, *cells)) for i in range(len(columns))]
    folds = _fold(widths, width)
    lines = []
    for line in (columns, *cells):
        for fold in folds:
            parts = [line[i].rjust(widths[i]) if numeric[i] else line[i].ljust(widths[i]) for i in fold]
            lines.append((_INDENT if fold[0] else "") + _GAP.join(parts).rstrip())
    return "\n".join(lines)


def _fold(widths: Sequence[int], room: int | None) -> list[list[int]]:
    """Which columns stand on which line."""
    folds: list[list[int]] = [[]]
    used = 0
    for column, chars in enumerate(widths):
        if room is not None and folds[-1] and used + len(_GAP) + chars > room:
            folds.append([])
            used = len(_INDENT)
        used += chars + (len(_GAP) if folds[-1] else 0)
        folds[-1].append(column)
    return folds


def pairs(rows: Sequence[tuple[str, object]]) -> str:
    """Names and values, one pair a line.

    Example:
        >>> print(pairs([("ID", "a-1"), ("State", "Open")]))
        ID     a-1
        State  Open
    """
    chars = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(chars)}{_GAP}{value}".rstrip() for name, value in rows)


def terminal_width() -> int | None:
    """Characters of a line of the terminal on standard output, or None if it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def local_time(time_ms: int) -> str:
    """A time for the reader, in the local time zone; empty for 0."""
    if not time_ms:
        return ""
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
