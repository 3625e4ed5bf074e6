"""Applications: register, update, unregister."""

from flame.core.control.effects import Answer
from flame.core.control.entities import Application
from flame.core.control.events import ApplicationDeleteRequested, ApplicationPutRequested
from flame.core.control.state import State, Turn
from flame.model.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from flame.model.records import ApplicationRecord, DeleteApplication, PutApplication
from flame.model.specs import check_application_name


def on_application_put(state: State, turn: Turn, event: ApplicationPutRequested) -> None:
    """Register an application, or change one that no open session uses."""
    name, spec = check_application_name(event.name), event.spec
    if spec.working_directory and not spec.working_directory.startswith("/"):
        raise InvalidArgument(
            f"application {name!r}: working_directory {spec.working_directory!r} is relative",
            hint="give an absolute path",
        )
    if spec.max_instances is not None and spec.max_instances < 1:
        raise InvalidArgument(
            f"application {name!r}: max_instances is {spec.max_instances}", hint="at least 1, or unset"
        )
    if spec.delay_release_ms < 0:
        raise InvalidArgument(f"application {name!r}: delay_release is negative")
    existing = state.applications.get(name)
    if event.update and existing is None:
        raise NotFound(f"application {name!r} is not registered")
    if not event.update and existing is not None:
        raise AlreadyExists(f"application {name!r} is registered already", hint="update it, or unregister it first")
    if state.low_space:
        raise ResourceExhausted("the store is nearly full: no application is stored", hint="free disk space")
    if existing is not None:
        _check_unused(existing, "changed")
    created = existing.record.created_ms if existing else turn.now_ms
    record = ApplicationRecord(name=name, spec=spec, created_ms=created)
    state.applications[name] = Application(record=record)
    turn.writes.append(PutApplication(record))
    turn.after.append(Answer(event.request))


def on_application_delete(state: State, turn: Turn, event: ApplicationDeleteRequested) -> None:
    """Unregister an application that no open session uses."""
    application = state.applications.get(event.name)
    if application is None:
        raise NotFound(f"application {event.name!r} is not registered")
    _check_unused(application, "unregistered")
    del state.applications[event.name]
    turn.writes.append(DeleteApplication(event.name))
    turn.after.append(Answer(event.request))


def _check_unused(application: Application, verb: str) -> None:
    used = application.open_sessions
    if used:
        users = "1 open session uses it" if used == 1 else f"{used} open sessions use it"
        raise FailedPrecondition(
            f"application {application.record.name!r} cannot be {verb}: {users}",
            hint="close them first; `flmctl list` shows them",
        )
