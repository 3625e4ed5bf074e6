"""The built-in application."""

import socket
import time

import msgspec
import pytest

from flame.service.base import TaskContext
from flame.service.flmping import Ping, PingAnswer


def ask(text: bytes) -> tuple[PingAnswer, int]:
    output = Ping().on_task_invoke(TaskContext("s", 1, text))
    return msgspec.json.decode(output, type=PingAnswer), len(output)


def test_an_empty_input_is_answered() -> None:
    answer, _ = ask(b"")
    assert answer.host == socket.gethostname()
    assert answer.memory_bytes > 0


def test_duration_and_memory() -> None:
    started = time.monotonic()
    answer, _ = ask(b'{"duration_ms": 20, "memory_bytes": 33554432}')
    assert time.monotonic() - started >= 0.02
    assert answer.duration_ms >= 20
    assert answer.memory_bytes > 33554432


@pytest.mark.parametrize("size", [0, 10, 200, 70_000])
def test_the_answer_has_the_size_that_was_asked_for(size: int) -> None:
    _, length = ask(b'{"output_bytes": %d}' % size)
    assert length >= size
    assert size < 150 or length <= size + 20


def test_an_unknown_wish_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="durationms"):
        ask(b'{"durationms": 20}')
