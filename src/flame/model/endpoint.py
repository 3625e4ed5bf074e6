"""Endpoints: `unix:///path`, `frames://host:port` and `http://host:port`."""

from typing import Final, Literal

import msgspec

from flame.model.errors import InvalidArgument

DEFAULT_PORT: Final = 8080
"""Port of the gRPC frontend where an `http://` endpoint names none."""
MAX_UNIX_PATH_BYTES: Final = 107
"""Longest path of a Unix socket, a limit of Linux."""
_MAX_HOST_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
_FORMS: Final = "write it like unix:///run/flame.sock, frames://host:port or http://host:port"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a session manager is reached.

    Args:
        scheme: `unix` and `frames` speak frames, `http` speaks gRPC.
        path: of the Unix socket, absolute; empty for the others.
        host, port: of the others; port 0 is any, for a listener.

    Example:
        >>> str(Endpoint.parse("http://localhost/"))
        'http://localhost:8080'
    """

    scheme: Literal["unix", "frames", "http"]
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, source: str = "") -> "Endpoint":
        """Read an endpoint.

        Args:
            text: the endpoint.
            source: who said so, for messages: a variable or a file.

        Raises:
            InvalidArgument: no endpoint, a scheme that is not served, or a path that is too long for a Unix socket.
        """
        shown = f"{source}: endpoint {text!r}" if source else f"endpoint {text!r}"
        scheme, separator, rest = text.partition("://")
        if scheme in ("https", "grpcs") and separator:
            raise InvalidArgument(f"{shown}: TLS is not supported yet", hint="use http:// on this machine")
        if scheme == "unix" and separator:
            return cls(scheme="unix", path=_check_path(rest, shown))
        if scheme not in ("frames", "http") or not separator:
            raise InvalidArgument(f"{shown} is not one that Flame knows", hint=_FORMS)
        default = DEFAULT_PORT if scheme == "http" else None
        host, port = split_address(rest.removesuffix("/"), shown, default)
        return cls(scheme="http" if scheme == "http" else "frames", host=host, port=port)

    @property
    def address(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether it is surely on this machine, by its text alone."""
        return self.scheme == "unix" or self.host in ("localhost", "::1") or _is_ipv4_loopback(self.host)

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.address}"


def _is_ipv4_loopback(host: str) -> bool:
    return host.startswith("127.") and host.replace(".", "").isdecimal()


def split_address(address: str, shown: str = "", default: int | None = None) -> tuple[str, int]:
    """Split `host:port`; brackets around an IPv6 address are removed.

    Args:
        address: what to split.
        shown: names it in messages; empty for the address itself.
        default: port where there is none; None if there has to be one.

    Raises:
        InvalidArgument: no host, or no port from 0 to 65535.

    Example:
        >>> split_address("[::1]:80")
        ('::1', 80)
    """
    shown = shown or repr(address)
    if address.startswith("["):  # IPv6
        host, closing, tail = address[1:].partition("]")
        colon, port = tail[:1], tail[1:]
        host = host if closing and colon in ("", ":") else ""
    else:
        host, colon, port = address.partition(":")
    if not _is_host(host):
        raise InvalidArgument(f"{shown} has no host name", hint="write host:port, e.g. 127.0.0.1:8080")
    if not colon and default is not None:
        return host, default
    if not (port.isascii() and port.isdecimal() and len(port) <= 9 and int(port) < 65536):
        raise InvalidArgument(f"{shown}: {port!r} is not a port number", hint="write host:port, with a port to 65535")
    return host, int(port)


def _is_host(host: str) -> bool:
    """Whether it can be the name or address of a host."""
    if not host.isprintable() or any(character in "/@?#[] " for character in host):
        return False
    if not host.isascii():
        try:
            host = host.encode("idna").decode()  # as a socket does; it takes 20 ms to import
        except UnicodeError:
            return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= _MAX_HOST_CHARS and all(0 < len(label) <= _MAX_LABEL_CHARS for label in labels)


def _check_path(path: str, shown: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(f"{shown}: the path of a Unix socket is not absolute", hint=_FORMS)
    try:
        nbytes = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise InvalidArgument(f"{shown}: the path is no Unicode text", hint=_FORMS) from None
    if nbytes > MAX_UNIX_PATH_BYTES:
        raise InvalidArgument(
            f"{shown}: the path has {nbytes} bytes, and a Unix socket's can have {MAX_UNIX_PATH_BYTES}",
            hint="choose a shorter directory",
        )
    return path
