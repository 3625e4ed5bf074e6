"""Whether somebody listens on a Unix socket."""

import socket


def answers(path: str) -> bool:
    """Whether a connection to the Unix socket at `path` is accepted, within a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (OSError, ValueError):
            return False
        return True
