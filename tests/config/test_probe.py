import socket
from pathlib import Path

from flame.config.probe import answers


def test_a_socket_answers_while_somebody_listens(short_tmp: Path) -> None:
    path = str(short_tmp / "s")
    assert not answers(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert not answers(path)
        listener.listen()
        assert answers(path)
    assert not answers(path)


def test_a_path_that_no_socket_can_have_does_not_answer() -> None:
    assert not answers("/" + "x" * 200)
    assert not answers("/a\0b")
