"""Exceptions as records."""

import importlib
from pathlib import Path

import pytest

from flame.executor.failures import failure_of
from flame.model.limits import MAX_ERROR_CHARS


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as same:
        return same


class Strange(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Meta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")


class Nameless(Exception, metaclass=Meta):
    pass


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit("leaves")


def test_type_message_and_traceback() -> None:
    record = failure_of(caught(ValueError("bad")), "the import failed")
    assert (record.type, record.message) == ("ValueError", "the import failed: bad")
    assert "in caught" in record.traceback
    assert record.traceback.endswith("ValueError: bad\n")
    assert failure_of(caught(Strange())).type.endswith("test_failures.Strange")


def test_an_exception_without_a_readable_message() -> None:
    assert "cannot be shown" in failure_of(caught(Strange())).message
    assert "cannot be shown: SystemExit" in failure_of(caught(Leaving())).message
    assert failure_of(caught(Nameless("x"))).type == "Exception"
    assert failure_of(caught(KeyError()), "doing it").message == "doing it"


def test_texts_are_cut() -> None:
    record = failure_of(caught(ValueError("x" * (2 * MAX_ERROR_CHARS))))
    assert len(record.message) == MAX_ERROR_CHARS
    assert len(record.traceback) == MAX_ERROR_CHARS
    assert record.traceback.startswith("[...]")


def test_frames_of_the_import_system_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_module_of_a_test.py").write_text("def f():\n    1 / 0\nf()\n")
    try:
        importlib.import_module("broken_module_of_a_test")
    except ZeroDivisionError as error:
        text = failure_of(error).traceback
    assert "broken_module_of_a_test.py" in text
    shown = [line for line in text.splitlines() if line.startswith("  File")]
    assert "test_failures.py" in shown[0]  # the first frame that is not Flame's
    assert len(shown) >= 2
