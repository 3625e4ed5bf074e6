"""Where things are kept. One function per place, so that no other module spells a path."""

import os
from pathlib import Path


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/flame`, by default `~/.local/share/flame`."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.local/share")
    return Path(base) / "flame"


def socket_path(data_dir: str) -> str:
    """The session manager's Unix socket in a data directory."""
    return f"{data_dir}/run/session-manager.sock"


def cluster_file(data_dir: str) -> str:
    """The runtime file of the cluster of a data directory."""
    return f"{data_dir}/run/cluster.json"


def pointer_file() -> str:
    """This user's pointer to the local cluster that was started last: a copy of its runtime file.

    `$XDG_RUNTIME_DIR/flame/cluster.json` where that directory is this user's, else `~/.flame/run/cluster.json`.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        if os.path.isabs(base) and os.stat(base).st_uid == os.geteuid():
            return f"{base}/flame/cluster.json"
    except OSError:
        pass
    return os.path.expanduser("~/.flame/run/cluster.json")


def log_file(data_dir: str, component: str) -> str:
    """Standard output and error of a component."""
    return f"{data_dir}/log/{component}.log"


def configuration_file(data_dir: str, component: str) -> str:
    """The YAML file that `flame up` writes for a component."""
    return f"{data_dir}/conf/{component}.yaml"
