"""Which cluster a client talks to.

In this order: the argument, the environment variable `FLAME_ENDPOINT`, `~/.flame/flame.yaml`, the local cluster of this
user that runs, an embedded cluster (SDK and `flmping` only).
"""

import os
from typing import Literal

import msgspec

from flame.config.client import client_file, current_context
from flame.config.runtime import running_cluster
from flame.model.errors import ConfigurationError, InvalidArgument, Unavailable

Kind = Literal["embedded", "unix", "frames", "http"]

DEFAULT_PORT = 8080
"""Port of the gRPC frontend where an `http://` endpoint names none."""

VARIABLE = "FLAME_ENDPOINT"

_FORMS = "unix:///path, frames://host:port, http://host:port or embedded"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cluster is.

    Args:
        kind: `embedded` starts one, `unix` and `frames` are the frame carrier, `http` is gRPC.
        url: the endpoint in its normal form, e.g. `http://127.0.0.1:8080`; `embedded` for an embedded one.
        source: who said so, for messages: `argument`, `FLAME_ENDPOINT`, a file's path, `running cluster` or `default`.
        path: of the Unix socket.
        host, port: of the others.
    """

    kind: Kind
    url: str
    source: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.url


def resolve(endpoint: str | None = None, *, allow_embedded: bool) -> Endpoint:
    """The cluster to talk to.

    Args:
        endpoint: what the caller asks for, or None.
        allow_embedded: whether an embedded cluster is an answer.

    Raises:
        InvalidArgument: the argument is no endpoint.
        ConfigurationError: `FLAME_ENDPOINT` or the file is not usable.
        Unavailable: nothing is configured, none runs, and an embedded cluster is no answer.

    Example:
        >>> resolve("http://localhost", allow_embedded=False).url
        'http://localhost:8080'
    """
    if endpoint is not None:
        return _allowed(parse_endpoint(endpoint, "argument"), allow_embedded)
    if text := os.environ.get(VARIABLE, "").strip():
        return _allowed(_configured(text, VARIABLE), allow_embedded)
    path = client_file()
    context = current_context(path)
    if context is not None and context.cluster.endpoint:
        return _allowed(_configured(context.cluster.endpoint, str(path)), allow_embedded)
    cluster = running_cluster()
    if cluster is not None:
        return parse_endpoint(cluster.endpoint, "running cluster")
    if allow_embedded:
        return Endpoint(kind="embedded", url="embedded", source="default")
    raise Unavailable(
        "no cluster of yours runs on this machine, and none is configured",
        hint=f"start one with `flame up`, or name one with --endpoint, {VARIABLE} or {path}",
    )


def parse_endpoint(text: str, source: str) -> Endpoint:
    """Read an endpoint.

    Args:
        text: `embedded`, `unix:///path`, `frames://host:port` or `http://host[:port]`.
        source: who said so, for messages.

    Raises:
        InvalidArgument: it is none of these, or `https://`, which needs TLS.
    """
    where = "endpoint" if source == "argument" else f"{source}: endpoint"
    if text == "embedded":
        return Endpoint(kind="embedded", url=text, source=source)
    scheme, separator, rest = text.partition("://")
    if scheme in ("https", "grpcs") and separator:
        raise InvalidArgument(f"{where} {text!r}: TLS is not there yet", hint="use http:// on this machine")
    if scheme == "unix" and separator:
        if not rest.startswith("/") or "\0" in rest:
            raise InvalidArgument(f"{where} {text!r}: the path is not absolute", hint="write unix:///path/of/socket")
        return Endpoint(kind="unix", url=text, source=source, path=rest)
    if scheme not in ("frames", "http") or not separator:
        raise InvalidArgument(f"{where} {text!r} is not one that Flame knows", hint=f"use {_FORMS}")
    host, port = _host_and_port(text, rest.removesuffix("/"), where, DEFAULT_PORT if scheme == "http" else None)
    kind: Kind = "http" if scheme == "http" else "frames"
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(kind=kind, url=f"{scheme}://{shown}:{port}", source=source, host=host, port=port)


def _host_and_port(text: str, rest: str, where: str, default: int | None) -> tuple[str, int]:
    if rest.startswith("["):  # IPv6
        host, closing, tail = rest[1:].partition("]")
        colon, port = tail[:1], tail[1:]
        host = host if closing and colon in ("", ":") else ""
    else:
        host, colon, port = rest.partition(":")
    if not colon and default is not None:
        port = str(default)
    if not host or any(c in "/@?# " for c in host):
        raise InvalidArgument(f"{where} {text!r} has no host name", hint=f"use {_FORMS}")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidArgument(f"{where} {text!r}: {port!r} is not a port number", hint="write a port of 1-65535")
    return host, int(port)


def _configured(text: str, source: str) -> Endpoint:
    try:
        return parse_endpoint(text, source)
    except InvalidArgument as error:
        raise ConfigurationError(error.message, error.hint) from None


def _allowed(endpoint: Endpoint, allow_embedded: bool) -> Endpoint:
    if endpoint.kind == "embedded" and not allow_embedded:
        raise InvalidArgument(
            f"{endpoint.source}: an embedded cluster ends with the program that started it",
            hint="start a cluster with `flame up`, and leave the endpoint out",
        )
    return endpoint
