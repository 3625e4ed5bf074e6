import io

import pytest

from flame.cli import ping_report
from flame.cli.ping_report import Progress, bar, completed, created, percentile, summary


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_as_documented() -> None:
    assert created("flmping-abc", 0.0123, 10_000) == (
        "Session <flmping-abc> was created in <12 ms>, start to run <10,000> tasks in the session:"
    )
    assert completed(10_000, 1.2345) == "<10,000> tasks was completed in <1,234 ms>."


def test_bar_at_the_end() -> None:
    assert bar(10000, 10000, 80) == "[100%] " + "=" * 40 + "   10000/10000"


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("done", [0, 1, 5_000_000, 9_999_999, 10_000_000])
def test_bar_fits_the_line_and_keeps_its_width(columns: int, done: int) -> None:
    text = bar(done, 10_000_000, columns)
    assert len(text) < columns
    assert len(text) == len(bar(0, 10_000_000, columns))
    assert text.startswith("[100%]") == (done == 10_000_000)


def test_without_terminal_one_plain_line() -> None:
    out = io.StringIO()
    progress = Progress(3, out)
    for done in (1, 2, 3):
        progress.update(done)
    progress.clear()
    progress.close()
    assert out.getvalue() == bar(3, 3, 80) + "\n"


def test_on_a_terminal_it_is_drawn_in_place() -> None:
    out = Terminal()
    progress = Progress(1000, out)
    for done in range(1, 1001):
        progress.update(done)
    progress.close()
    drawings = out.getvalue().split("\r")
    assert len(drawings) < 100
    assert "1000/1000" in drawings[-1]
    assert out.getvalue().endswith("\n")


def test_a_line_in_between_gets_an_empty_line() -> None:
    out = Terminal()
    progress = Progress(10, out)
    progress.update(1)
    progress.clear()
    assert out.getvalue().endswith("\r\x1b[K")


def test_summary() -> None:
    rows = dict(summary(99, 1, 2.0, [i / 1000 for i in range(1, 101)]))
    assert rows == {
        "Duration": "2,000 ms",
        "Succeeded": "99",
        "Failed": "1",
        "Tasks/s": "50.0",
        "Latency p50": "50.00 ms",
        "Latency p90": "90.00 ms",
        "Latency p99": "99.00 ms",
    }


def test_percentile_of_few() -> None:
    assert [percentile([7], 50), percentile([7], 99), percentile([1, 2], 50)] == [7, 7, 1]
    assert ping_report.milliseconds(0) == "0 ms"
