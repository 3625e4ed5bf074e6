"""The sockets behind endpoints: bound where that is safe, connected, and their errors in words."""

import os
import socket
from errno import EADDRINUSE
from fcntl import LOCK_EX, flock
from stat import S_ISSOCK
from typing import Final

import msgspec

from flame.model.endpoint import Endpoint
from flame.model.errors import ConfigurationError, FailedPrecondition, Unavailable

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""


def check_loopback(host: str, shown: str) -> str:
    """The address to bind for `host`, which has to be this machine's loopback.

    Raises:
        ConfigurationError: any other address or a name.
    """
    from ipaddress import ip_address  # for listeners only: links have to open fast

    if host == "localhost":
        return "127.0.0.1"
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"{shown}: refusing to listen on {host}: connections are not encrypted or authenticated yet, and whoever "
            "can register an application can run code here",
            hint="use 127.0.0.1, localhost, ::1 or a unix:// endpoint",
        )
    return host


def bind(endpoint: Endpoint) -> socket.socket:
    """A listening, non-blocking socket.

    A Unix socket has mode 0600 from its first moment; a socket file that nobody listens on any more is replaced.

    Raises:
        ConfigurationError: not a loopback address, or a place that cannot be bound.
        FailedPrecondition: somebody else listens there.
    """
    listener = _bind_unix(endpoint) if endpoint.scheme == "unix" else _bind_tcp(endpoint)
    listener.setblocking(False)
    return listener


def bound_endpoint(endpoint: Endpoint, listener: socket.socket) -> Endpoint:
    """The endpoint with the port that `listener` really has."""
    if endpoint.scheme == "unix":
        return endpoint
    return msgspec.structs.replace(endpoint, port=listener.getsockname()[1])


def _bind_tcp(endpoint: Endpoint) -> socket.socket:
    host = check_loopback(endpoint.host, str(endpoint))
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, endpoint.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise cannot_listen(str(endpoint), error) from None
    return listener


def _bind_unix(endpoint: Endpoint) -> socket.socket:
    path = endpoint.path
    try:
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise cannot_listen(str(endpoint), error) from None
    try:
        flock(directory, LOCK_EX)  # of two that find the same stale file, one must not unlink the other's fresh one
        _remove_stale(endpoint)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with the socket's own mode: no moment with more
            listener.bind(path)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise cannot_listen(str(endpoint), error) from None
    finally:
        os.close(directory)
    return listener


def _remove_stale(endpoint: Endpoint) -> None:
    """Remove the file of a Unix socket that nobody listens on."""
    try:
        if not S_ISSOCK(os.lstat(endpoint.path).st_mode):
            raise ConfigurationError(
                f"{endpoint}: there is a file of that name which is no socket", hint="remove it or choose another path"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(endpoint.path)
        except ConnectionRefusedError:
            os.unlink(endpoint.path)
            return
        except OSError:  # e.g. a full queue: somebody is there, if busy
            pass
    raise _in_use(str(endpoint))


def _in_use(shown: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{shown}: already in use", hint="stop the process that listens there, or choose another endpoint"
    )


def cannot_listen(shown: str, error: OSError) -> FailedPrecondition | ConfigurationError:
    """The error for a bind that failed."""
    if error.errno == EADDRINUSE:
        return _in_use(shown)
    return ConfigurationError(f"{shown}: cannot listen: {_reason(error)}", hint="check the path and its owner")


def connect_socket(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    """A connected socket in blocking mode with that timeout.

    Raises:
        Unavailable: nobody answers there.
    """
    try:
        if endpoint.scheme == "unix":
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.settimeout(timeout_s)
                connected.connect(endpoint.path)
            except OSError:
                connected.close()
                raise
            return connected
        connected = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected
    except OSError as error:
        raise cannot_connect(str(endpoint), error) from None


def cannot_connect(shown: str, error: OSError) -> Unavailable:
    """The error for a connection that could not be made."""
    return Unavailable(f"{shown}: cannot connect: {_reason(error)}", hint="check that the cluster runs: flame status")


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):  # its numbers are not those of the system
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower() if error.errno else str(error)
