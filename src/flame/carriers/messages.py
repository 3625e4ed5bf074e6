"""From the bytes that arrived to messages: what is whole is delivered, whatever is wrong with what follows."""

from collections.abc import Iterable

from flame.model.errors import InvalidArgument
from flame.model.messages import Message


def collect_messages(messages: Iterable[Message]) -> tuple[list[Message], InvalidArgument | None]:
    """The messages that can be had, and why there are no more of them, if that is an error.

    Args:
        messages: decodes as it goes, and raises `InvalidArgument` at the first malformed one.
    """
    collected: list[Message] = []
    try:
        for message in messages:
            collected.append(message)  # noqa: PERF402 (extend promises nothing for what precedes an error)
    except InvalidArgument as error:
        return collected, error
    return collected, None
