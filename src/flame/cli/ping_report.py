"""What `flmping` prints: its lines, the progress bar and the summary."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

_BAR_CHARS = 40
_REDRAW_S = 0.1


class Progress:
    """A bar like `[100%] ====   10000/10000`.

    On a terminal it is drawn anew as tasks end, at most ten times a second and no wider than a line; elsewhere it is
    one line at the end, without control characters.
    """

    def __init__(self, total: int, out: TextIO | None = None) -> None:
        self._total = total
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._drawn_s = 0.0
        self._done = 0
        self._line = False

    def update(self, done: int) -> None:
        """So many tasks have ended."""
        self._done = done
        if self._live:
            now_s = time.monotonic()
            if now_s - self._drawn_s >= _REDRAW_S:
                self._drawn_s = now_s
                self._draw()

    def close(self) -> None:
        """Draw the bar a last time, and end its line."""
        if self._live:
            self._draw()
            self._out.write("\n")
        else:
            self._out.write(bar(self._done, self._total, 80) + "\n")
        self._out.flush()

    def _draw(self) -> None:
        self._out.write(f"\r{bar(self._done, self._total, shutil.get_terminal_size().columns)}\x1b[K")
        self._out.flush()
        self._line = True

    def clear(self) -> None:
        """Make room for another line; the bar is drawn again with the next update."""
        if self._line:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._line = False


def bar(done: int, total: int, columns: int) -> str:
    """The bar's text, at most `columns - 1` characters where that is possible.

    Example:
        >>> bar(50, 100, 40)
        '[ 50%] ==========             50/100'
    """
    share = done / total if total else 1.0
    head, tail = f"[{int(share * 100):3d}%] ", f"   {done:{len(str(total))}d}/{total}"
    room = max(4, min(_BAR_CHARS, columns - 1 - len(head) - len(tail)))
    return head + ("=" * int(share * room)).ljust(room) + tail


def created(session_id: str, elapsed_s: float, tasks: int) -> str:
    """The line once the session is there."""
    return (
        f"Session <{session_id}> was created in <{milliseconds(elapsed_s)}>, "
        f"start to run <{tasks:,}> tasks in the session:"
    )


def completed(tasks: int, elapsed_s: float) -> str:
    """The line once all tasks have ended."""
    return f"<{tasks:,}> tasks was completed in <{milliseconds(elapsed_s)}>."


def milliseconds(elapsed_s: float) -> str:
    """A duration in whole milliseconds.

    Example:
        >>> milliseconds(1.5)
        '1,500 ms'
    """
    return f"{round(elapsed_s * 1000):,} ms"


def summary(succeeded: int, failed: int, elapsed_s: float, latencies_s: Sequence[float]) -> list[tuple[str, str]]:
    """Names and values of the summary.

    Args:
        latencies_s: of each task, from its submission to its result.
    """
    ordered = sorted(latencies_s)
    rows = [
        ("Duration", milliseconds(elapsed_s)),
        ("Succeeded", f"{succeeded:,}"),
        ("Failed", f"{failed:,}"),
        ("Tasks/s", f"{(succeeded + failed) / elapsed_s:,.1f}" if elapsed_s > 0 else "-"),
    ]
    for percent in (50, 90, 99):
        value = f"{percentile(ordered, percent) * 1000:,.2f} ms" if ordered else "-"
        rows.append((f"Latency p{percent}", value))
    return rows


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of the values do not exceed.

    Example:
        >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
        2.0
    """
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
