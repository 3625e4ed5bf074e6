"""Messages are plain data: every one can be told apart, compared and copied."""

from typing import get_args

import msgspec
import pytest

from flame.model import messages
from flame.model.messages import ManagerMessage, PeerMessage

KINDS = [*get_args(PeerMessage), *get_args(ManagerMessage)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_is_frozen_tagged_and_documented(kind: type[msgspec.Struct]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.tag == kind.__name__
    assert (kind.__doc__ or "").strip()


def test_no_message_is_left_out() -> None:
    tagged = {
        value
        for value in vars(messages).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__struct_config__.tag
    }
    assert tagged == set(KINDS)
    assert len(KINDS) == len(tagged), "a message has one direction"
