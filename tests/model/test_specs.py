"""Names: what is a valid one, at the edge of each limit."""

from collections.abc import Callable

import pytest

from flame.model.errors import InvalidArgument
from flame.model.limits import MAX_APPLICATION_NAME_CHARS, MAX_NODE_NAME_CHARS, MAX_SESSION_ID_CHARS
from flame.model.specs import ApplicationSpec, SessionSpec, check_application_name, check_node_name, check_session_id

CHECKS: list[tuple[Callable[[str], str], int]] = [
    (check_session_id, MAX_SESSION_ID_CHARS),
    (check_application_name, MAX_APPLICATION_NAME_CHARS),
    (check_node_name, MAX_NODE_NAME_CHARS),
]


@pytest.mark.parametrize(("check", "most_chars"), CHECKS)
@pytest.mark.parametrize("name", ["a", "A9", "flmping-a1b2c3", "a.b_c-d", "_a", "9"])
def test_valid_names(check: Callable[[str], str], most_chars: int, name: str) -> None:
    assert check(name) == name
    assert check("x" * most_chars)


@pytest.mark.parametrize(("check", "most_chars"), CHECKS)
@pytest.mark.parametrize("name", ["", ".a", "-a", "a..b", "a/b", "a b", "ä", "a\n", "a\0"])
def test_invalid_names(check: Callable[[str], str], most_chars: int, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(name)
    assert str(most_chars) in caught.value.hint
    with pytest.raises(InvalidArgument):
        check("x" * (most_chars + 1))


def test_a_very_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_session_id("x" * 100_000)
    assert len(str(caught.value)) < 300


def test_specs_have_the_published_defaults() -> None:
    assert ApplicationSpec().delay_release_ms == 60_000
    session = SessionSpec(application="a")
    assert (session.min_instances, session.max_instances, session.priority) == (0, None, 0)
