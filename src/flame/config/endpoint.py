"""Which cluster a client talks to.

In this order: the argument, the environment variable `FLAME_ENDPOINT`, `~/.flame/flame.yaml`, the local cluster of this
user that runs, an embedded cluster (SDK and `flmping` only).
"""

import os
from typing import Literal

import msgspec

from flame.config.client import client_file, current_context
from flame.config.runtime import running_cluster
from flame.model.endpoint import Endpoint
from flame.model.errors import ConfigurationError, InvalidArgument, Unavailable

Kind = Literal["embedded", "unix", "frames", "http"]

VARIABLE = "FLAME_ENDPOINT"
_RUNNING = "running cluster"


class ClusterEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cluster is, and who said so.

    Args:
        kind: `embedded` starts one, `unix` and `frames` are the frame carrier, `http` is gRPC.
        url: the endpoint in its normal form, e.g. `http://127.0.0.1:8080`; `embedded` for an embedded one.
        source: who said so, for messages: `argument`, `FLAME_ENDPOINT`, a file's path, `running cluster` or `default`.
    """

    kind: Kind
    url: str
    source: str

    @property
    def supervised(self) -> bool:
        """Whether it is a local cluster that runs, so that somebody starts again what does not answer just now."""
        return self.source == _RUNNING

    def __str__(self) -> str:
        return self.url


def resolve(endpoint: str | None = None, *, allow_embedded: bool) -> ClusterEndpoint:
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
    running = running_cluster()
    if running is not None:
        return parse_endpoint(running.endpoint, _RUNNING)
    if allow_embedded:
        return ClusterEndpoint(kind="embedded", url="embedded", source="default")
    raise Unavailable(
        "no cluster of yours runs on this machine, and none is configured",
        hint=f"start one with `flame up`, or name one with --endpoint, {VARIABLE} or {path}",
    )


def parse_endpoint(text: str, source: str) -> ClusterEndpoint:
    """Read what says which cluster to talk to.

    Args:
        text: `embedded`, or an endpoint as `flame.model.endpoint` reads it.
        source: who said so, for messages.

    Raises:
        InvalidArgument: it is neither, or has the port 0.
    """
    if text == "embedded":
        return ClusterEndpoint(kind="embedded", url=text, source=source)
    place = Endpoint.parse(text, "" if source == "argument" else source)
    if place.scheme != "unix" and place.port == 0:
        raise InvalidArgument(f"{source}: endpoint {text!r}: nobody listens on port 0", hint="write a port of 1-65535")
    return ClusterEndpoint(kind=place.scheme, url=str(place), source=source)


def _configured(text: str, source: str) -> ClusterEndpoint:
    try:
        return parse_endpoint(text, source)
    except InvalidArgument as error:
        raise ConfigurationError(error.message, error.hint) from None


def _allowed(cluster: ClusterEndpoint, allow_embedded: bool) -> ClusterEndpoint:
    if cluster.kind == "embedded" and not allow_embedded:
        raise InvalidArgument(
            f"{cluster.source}: an embedded cluster ends with the program that started it",
            hint="start a cluster with `flame up`, and leave the endpoint out",
        )
    return cluster
