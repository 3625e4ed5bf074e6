"""The client's configuration file, `~/.flame/flame.yaml`, as published (keys of the 0.6 and the 0.7 SDKs)."""

import os
from pathlib import Path

import msgspec

from flame.config.files import load
from flame.model.errors import ConfigurationError


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of a TLS identity, PEM. Accepted; used once TLS arrives."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class ClusterSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the session manager is.

    Args:
        endpoint: e.g. `http://127.0.0.1:8080`; empty for none.
        tls: identity for `https://`.
    """

    endpoint: str = ""
    tls: Tls | None = None


class CacheSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the object cache is.

    Args:
        endpoint: e.g. `grpc://127.0.0.1:9090`; empty for none.
        tls: identity for `grpcs://`.
        storage: directory of local copies.
    """

    endpoint: str = ""
    tls: Tls | None = None
    storage: str = ""


class PackageSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the published SDKs pack applications. Accepted; not used by this one."""

    storage: str = ""
    excludes: tuple[str, ...] = ()


class RunnerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Template of the published 0.6 runner. Accepted; not used by this SDK."""

    template: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster under a name. `app` is the 0.7 name of `runner.template`."""

    name: str
    cluster: ClusterSection = ClusterSection()
    cache: CacheSection | None = None
    package: PackageSection | None = None
    runner: RunnerSection | None = None
    app: str = ""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Args:
        current_context: name of the context to use; may be left out where there is only one.
        contexts: the clusters this user knows.
    """

    current_context: str = msgspec.field(default="", name="current-context")
    contexts: tuple[Context, ...] = ()


def client_file() -> Path:
    """The path of the file: `$HOME/.flame/flame.yaml`, read at run time."""
    return Path(os.path.expanduser("~")) / ".flame" / "flame.yaml"


def current_context(path: Path) -> Context | None:
    """The context in use, or None where the file does not exist or has no contexts.

    Raises:
        ConfigurationError: the file cannot be used, or its current context does not exist.
    """
    if not path.exists():
        return None
    config = load(path, ClientConfig)
    if not config.contexts:
        return None
    if not config.current_context and len(config.contexts) == 1:
        return config.contexts[0]
    names = ", ".join(context.name for context in config.contexts)
    if not config.current_context:
        raise ConfigurationError(f"{path}: the key 'current-context' is missing", hint=f"set it to one of {names}")
    for context in config.contexts:
        if context.name == config.current_context:
            return context
    raise ConfigurationError(
        f"{path}: current-context: there is no context {config.current_context!r}", hint=f"one of {names}"
    )
