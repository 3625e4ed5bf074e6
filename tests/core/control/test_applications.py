"""Registering applications: identical names, changes while in use, bad values."""

from typing import Any

import pytest

from flame.core.control.effects import Answer
from flame.core.control.events import ApplicationDeleteRequested, ApplicationPutRequested
from flame.model.errors import Rejection
from flame.model.specs import ApplicationSpec
from tests.core.harness import Core

SPEC = ApplicationSpec(service="m:C")


def answer(core: Core, event: ApplicationPutRequested | ApplicationDeleteRequested) -> Rejection | None:
    core.take()
    core.turn(event)
    (effect,) = core.effects
    assert isinstance(effect, Answer)
    assert effect.request == 7
    return effect.error


def put(core: Core, name: str = "app", *, update: bool = False, **fields: Any) -> Rejection | None:
    spec = ApplicationSpec(service="m:C", **fields)
    return answer(core, ApplicationPutRequested(request=7, name=name, spec=spec, update=update))


def test_an_application_is_registered_stored_and_changed() -> None:
    core = Core()
    assert put(core, "new") is None
    assert put(core, "new", update=True, description="changed") is None
    core.restart()
    assert core.state.applications["new"].record.spec.description == "changed"
    assert answer(core, ApplicationDeleteRequested(request=7, name="new")) is None
    core.restart()
    assert "new" not in core.state.applications


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"name": "a b"}, "INVALID_ARGUMENT", "not valid"),
        ({"name": "x", "working_directory": "relative"}, "INVALID_ARGUMENT", "relative"),
        ({"name": "x", "max_instances": 0}, "INVALID_ARGUMENT", "max_instances"),
        ({"name": "x", "delay_release_ms": -1}, "INVALID_ARGUMENT", "delay_release"),
        ({"name": "x", "update": True}, "NOT_FOUND", "not registered"),
        ({"name": "app"}, "ALREADY_EXISTS", "registered already"),
    ],
)
def test_what_cannot_be_registered_says_why_and_changes_nothing(fields: dict[str, Any], code: str, text: str) -> None:
    core = Core()
    error = put(core, **fields)
    assert error is not None
    assert (error.code, text in error.message) == (code, True)
    assert list(core.state.applications) == ["app"]
    assert not core.writes


def test_an_application_in_use_is_neither_changed_nor_removed_until_its_sessions_are_closed() -> None:
    core = Core()
    core.attach("a")
    for error in (put(core, update=True), answer(core, ApplicationDeleteRequested(request=7, name="app"))):
        assert error is not None
        assert error.code == "FAILED_PRECONDITION"
        assert "1 open session uses it" in error.message
    core.restart()
    assert put(core, update=True) is not None, "a restart forgets no session"
    core.close("app-000001")
    assert put(core, update=True) is None
