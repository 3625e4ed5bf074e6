"""What users ask for: applications and sessions."""

import re
from typing import Annotated

import msgspec

from flame.model.errors import InvalidArgument
from flame.model.limits import (
    DELAY_RELEASE_MS,
    MAX_APPLICATION_NAME_CHARS,
    MAX_NODE_NAME_CHARS,
    MAX_SESSION_ID_CHARS,
)
from flame.model.resources import Resources
from flame.model.states import Shim

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class ApplicationSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An application: user code that can run tasks.

    Args:
        shim: the protocol between executor and service.
        service: `package.module:Class` or `/path/of/script.py:Class` (with any suffix or none) of a Python
            service; empty for other shims.
        working_directory: absolute path, put on the import path of a Python service.
        environments: extra environment variables, as pairs.
        max_instances: most executors of one session; None is unlimited.
        delay_release_ms: how long an executor stays after its session ran out of tasks.
    """

    shim: Shim = Shim.HOST
    service: str = ""
    description: str = ""
    labels: tuple[str, ...] = ()
    image: str = ""
    command: str = ""
    arguments: tuple[str, ...] = ()
    environments: tuple[tuple[str, str], ...] = ()
    working_directory: str = ""
    max_instances: Count | None = None
    delay_release_ms: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = DELAY_RELEASE_MS
    input_schema: str | None = None
    output_schema: str | None = None
    common_data_schema: str | None = None
    url: str = ""
    installer: str = ""


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session as its client asked for it.

    Args:
        application: name of the application.
        common_data: bytes that every executor of the session gets once, or None.
        min_instances: executors held while the session is open.
        max_instances: most executors; None is unlimited.
        batch_size: executors per gang; stored, used by gang scheduling.
        priority: larger goes first.
        resources: what each executor asks for; None takes the cluster's default.
    """

    application: str
    common_data: bytes | None = None
    min_instances: Count = 0
    max_instances: Count | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)] = 1
    priority: Count = 0
    resources: Resources | None = None


def check_working_directory(name: str, spec: ApplicationSpec) -> None:
    """Raise `InvalidArgument` where the working directory of application `name` is relative."""
    if spec.working_directory and not spec.working_directory.startswith("/"):
        raise InvalidArgument(
            f"application {name!r}: working_directory {spec.working_directory!r} is relative",
            hint="give an absolute path",
        )


def check_name(kind: str, name: str, limit: int) -> str:
    """Return `name` if it is a valid one.

    Args:
        kind: what is named, for the message: `session`, `application` or `node`.
        name: the name to check.
        limit: most characters.

    Raises:
        InvalidArgument: empty, too long, a character outside `[A-Za-z0-9._-]`, a leading `.` or `-`, or `..`.
    """
    if len(name) > limit or not _NAME.fullmatch(name) or ".." in name:
        shown = name if len(name) <= 64 else name[:64] + "..."
        raise InvalidArgument(
            f"{kind} name {shown!r} is not valid",
            hint=f"use 1-{limit} characters of A-Z a-z 0-9 . _ -, not starting with . or -, without ..",
        )
    return name


def check_session_id(name: str) -> str:
    """Return `name` if it can be a session id, else raise `InvalidArgument`."""
    return check_name("session", name, MAX_SESSION_ID_CHARS)


def check_application_name(name: str) -> str:
    """Return `name` if it can be an application's, else raise `InvalidArgument`."""
    return check_name("application", name, MAX_APPLICATION_NAME_CHARS)


def check_node_name(name: str) -> str:
    """Return `name` if it can be a node's, else raise `InvalidArgument`."""
    return check_name("node", name, MAX_NODE_NAME_CHARS)
