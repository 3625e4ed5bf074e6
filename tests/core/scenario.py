"""The language of `scenarios/*.txt`: a command per line, and indented under it what the core does.

    app release=100ms                   register the application `app` (it is there already, with a long release)
    node n1 cpu=2 max=0                 a node joins; lists nothing
    node-back n1 E=FIRST+COUNT E        the same one joins again, and lists executors with what they hold
    node-lost n1                        its link ends
    attach a min=0 max=2 priority=1     client `a` creates a session
    attach b to=NAME read after=0       client `b` attaches to one, for submitting or `read`ing; key=K is its key
    submit a 1 100 bytes=8              a chunk of 100 tasks from 1, 8 bytes each
    cancel a 1 100                      cancel what is not started of a range
    ack a 3                             results up to segment 3 are taken
    lost a                              a client's, or an executor's, link ends
    enter E [E...]                      processes attach and enter
    attach-executor E held=1.5:3+2 entered   one attaches with what it holds, of attempt 1.5
    report E 3 [failed] each=10ms       the first 3 tasks that it holds are finished; without `each` in 0.1 ms each
    give-back E FIRST COUNT | exit E signal=6 current=7 code=1 left not-entered
    close NAME | delete NAME | restart | advance 300ms | space 10

`quiet` before a command hides what it does. Attempts and bindings are shown as epoch.counter. `<-` is what is sent, and
`<~` what is sent lazily: after all that somebody waits for.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from flame.core.control.effects import Answer, SendToClient, SendToExecutor, SendToNode
from flame.core.control.events import (
    ApplicationPutRequested,
    SessionDeleteRequested,
    SpaceMeasured,
)
from flame.model.client_messages import AcknowledgeSegments, CancelTasks
from flame.model.errors import Rejection
from flame.model.executor_messages import RetractTasks
from flame.model.ranges import HeldRange, Range
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import TaskState
from tests.core.harness import Core

_ARROWS = {False: "<-", True: "<~"}
_ATTEMPTS = ("attempt", "binding", "request")
_HIDDEN = (
    *("lengths", "spec", "created_ms", "closed_ms", "finished_ms", "resources", "common_data", "session_id"),
    *("application", "start_timeout_ms", "enter_timeout_ms", "hint", "attachment", "link", "limit_bytes"),
)


class Scenario:
    """Runs commands and says what the core did."""

    def __init__(self, **settings: Any) -> None:
        self.core = Core(**settings)
        self.core.take()
        self._retracts: dict[str, int] = {}

    def run(self, command: str) -> list[str]:
        """Carry out one command; returns the lines of its trace."""
        words = command.split()
        quiet = words[0] == "quiet"
        name, *rest = words[quiet:]
        plain = [word for word in rest if "=" not in word]
        named = dict(word.split("=", 1) for word in rest if "=" in word)
        self.core.take()
        _COMMANDS[name](self, plain, named)
        for effect in self.core.effects:
            if isinstance(effect, SendToExecutor) and isinstance(effect.message, RetractTasks):
                self._retracts[effect.executor] = effect.message.request
        return [] if quiet else self._trace()

    def _trace(self) -> list[str]:
        lines = [f"write {_show(write)}" for write in self.core.writes]
        peers = {number: name for name, number in self.core.links.items()}
        for effect in self.core.effects:
            match effect:
                case SendToClient(link=link, message=message, lazy=lazy):
                    lines.append(f"{peers.get(link, '(gone)')} {_ARROWS[lazy]} {_show(message)}")
                case SendToExecutor(executor=executor, message=message, lazy=lazy):
                    lines.append(f"{executor} {_ARROWS[lazy]} {_show(message)}")
                case SendToNode(node=node, message=message):
                    lines.append(f"{node} <- {_show(message)}")
                case Answer(error=error):
                    lines.append(f"answer {error.code}: {error.message}" if error else "answer")
                case _:
                    lines.append(_show(effect))
        return lines

    # --- commands ----------------------------------------------------------------------------------------------------

    def app(self, plain: list[str], named: dict[str, str]) -> None:
        spec = ApplicationSpec(service="m:C", delay_release_ms=_ms(named["release"]))
        self.core.turn(ApplicationPutRequested(request=1, name="app", spec=spec, update=True))

    def node(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.join(plain[0], cpu=int(named["cpu"]), max_executors=int(named.get("max", 0)))

    def node_back(self, plain: list[str], named: dict[str, str]) -> None:
        name, *idle = plain
        node = self.core.state.nodes[name]
        listed = [self.core.listed(executor) for executor in idle if executor != "silent"]
        listed += [self.core.listed(executor, _held(text)) for executor, text in named.items() if executor != "cpu"]
        cpu = int(named.get("cpu", node.capacity.cpu))
        self.core.join(name, cpu=cpu, executors=tuple(listed))

    def node_lost(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.lose_node(plain[0])

    def attach(self, plain: list[str], named: dict[str, str]) -> None:
        create: SessionSpec | None = None
        if "to" not in named:
            most = named.get("max")
            create = SessionSpec(
                application="app",
                min_instances=int(named.get("min", 0)),
                max_instances=int(most) if most else None,
                priority=int(named.get("priority", 0)),
            )
        self.core.attach(
            plain[0],
            named.get("to", ""),
            create=create,
            submit="read" not in plain,
            key=named.get("key", plain[0]),
            after=int(named.get("after", 0)),
        )

    def submit(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.submit(plain[0], int(plain[1]), int(plain[2]), int(named.get("bytes", 1)))

    def cancel(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.client(plain[0], CancelTasks(attachment=1, request=1, first=int(plain[1]), count=int(plain[2])))

    def ack(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.client(plain[0], AcknowledgeSegments(attachment=1, sequence=int(plain[1])))

    def lost(self, plain: list[str], named: dict[str, str]) -> None:
        if plain[0] in self.core.state.executors:
            self.core.lose_executor(plain[0])
        else:
            self.core.lose_client(plain[0])

    def enter(self, plain: list[str], named: dict[str, str]) -> None:
        for executor in plain:
            self.core.start(executor)

    def attach_executor(self, plain: list[str], named: dict[str, str]) -> None:
        held = _held(named["held"]) if "held" in named else []
        self.core.start(plain[0], held=held or (), entered="entered" in plain, enter=False)

    def report(self, plain: list[str], named: dict[str, str]) -> None:
        state = TaskState.FAILED if "failed" in plain else TaskState.SUCCEED
        each_us = 1000 * _ms(named["each"]) if "each" in named else 100
        self.core.report(plain[0], int(plain[1]), state, each_us)

    def give_back(self, plain: list[str], named: dict[str, str]) -> None:
        executor, first, count = plain[0], int(plain[1]), int(plain[2])
        given = []
        for part in self.core.held(executor):
            low, high = max(first, part.first), min(first + count, part.first + part.count)
            if low < high:
                given.append(HeldRange(part.attempt, low, high - low))
        self.core.give_back(executor, self._retracts.get(executor, 0), *given)

    def exit(self, plain: list[str], named: dict[str, str]) -> None:
        code = named.get("code")
        fields: dict[str, Any] = {"entered": False} if "not-entered" in plain else {}
        self.core.exit(
            plain[0],
            exit_code=int(code) if code else None,
            signal=int(named.get("signal", 0)),
            current=int(named.get("current", 0)),
            left="left" in plain,
            **fields,
        )

    def close(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.close(plain[0])

    def delete(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.turn(SessionDeleteRequested(request=1, name=plain[0]))

    def restart(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.restart()

    def advance(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.advance(_ms(plain[0]))

    def space(self, plain: list[str], named: dict[str, str]) -> None:
        self.core.turn(SpaceMeasured(int(plain[0])))


_COMMANDS: dict[str, Callable[[Scenario, list[str], dict[str, str]], None]] = {
    name.replace("_", "-"): getattr(Scenario, name)
    for name in (
        *("app", "node", "node_back", "node_lost", "attach", "submit", "cancel", "ack", "lost", "enter"),
        *("attach_executor", "report", "give_back", "exit", "close", "delete", "restart", "advance", "space"),
    )
}


def _ms(text: str) -> int:
    match = re.fullmatch(r"(\d+)(ms|s)", text)
    assert match, f"{text!r}: write 300ms or 3s"
    return int(match[1]) * (1000 if match[2] == "s" else 1)


def _held(text: str) -> list[HeldRange] | None:
    """Read `1.5:3+2,1.6:9+1`; `unreadable` is a table that the node cannot read."""
    if text == "unreadable":
        return None
    parts = []
    for epoch, counter, first, count in re.findall(r"(\d+)\.(\d+):(\d+)\+(\d+)", text):
        parts.append(HeldRange(int(epoch) << 32 | int(counter), int(first), int(count)))
    return parts


def _show(value: Any) -> str:
    """A struct on one line, without what does not matter."""
    name = type(value).__name__
    record = getattr(value, "record", value)
    defaults = dict(zip(record.__struct_fields__[::-1], record.__struct_defaults__[::-1], strict=False))
    parts = [name]
    for field in record.__struct_fields__:
        shown = getattr(record, field)
        if field not in _HIDDEN and (field not in defaults or shown != defaults[field]):
            parts.append(f"{field}={_value(field, shown)}")
    return " ".join(parts)


def _value(field: str, value: Any) -> str:
    if field in _ATTEMPTS and isinstance(value, int) and value >> 32:
        return f"{value >> 32}.{value & 0xFFFFFFFF}"
    if isinstance(value, HeldRange):
        return f"{_value('attempt', value.attempt)}:{value.first}+{value.count}"
    if isinstance(value, Range):
        return f"{value.first}+{value.count}"
    if isinstance(value, Rejection):
        return f"{value.code}({value.message})"
    if isinstance(value, tuple):
        return ",".join(_value("", part) for part in value)
    if field == "states":
        return "".join(str(state) for state in value)
    if isinstance(value, bytes):
        return value.decode(errors="replace") if len(value) <= 150 else f"<{len(value)} bytes>"
    if isinstance(value, msgspec.Struct):
        return _show(value)
    return getattr(value, "name", None) or str(value)
