"""What tests share beside fixtures: waiting for a condition, and source files as syntax trees."""

import ast
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "flame"

Value = TypeVar("Value")


class WaitUntil(Protocol):
    """The type of the fixture `wait_until`."""

    def __call__(self, condition: Callable[[], Value], timeout_s: float = 30.0, what: str = "") -> Value:
        """Return the first true value of `condition`."""
        ...


def wait_until_true(condition: Callable[[], Value], timeout_s: float = 30.0, what: str = "") -> Value:
    """Call `condition` until it is true, with short pauses, and return its value.

    Raises:
        AssertionError: it was not true within `timeout_s`; `what` says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or getattr(condition, '__name__', condition)!s}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


def python_files(*folders: str) -> Iterator[Path]:
    """Every Python file of the project below `folders` (relative to the root), generated code excluded."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "gen" not in path.relative_to(ROOT).parts and "__pycache__" not in path.parts:
                yield path


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
