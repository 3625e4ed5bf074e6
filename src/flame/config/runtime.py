"""The runtime file: how a client finds the cluster that runs on this machine.

`flame up` writes one per data directory and a copy of it as this user's pointer, both with mode 0600. A file is only
believed while the cluster it names is alive.
"""

import os

import msgspec

from flame.config import paths
from flame.config.probe import answers
from flame.config.processes import is_component


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A local cluster.

    Args:
        data_dir: absolute path of its data directory.
        endpoint: frame endpoint of its session manager.
        grpc: endpoint of its gRPC frontend, `http://host:port`, or empty for none.
        supervisor: process id of its supervisor.
        version: of this file's format.
    """

    data_dir: str
    endpoint: str
    grpc: str = ""
    supervisor: int = 0
    version: int = 1


def read(path: str) -> Cluster | None:
    """A runtime file's content, or None where it does not exist, cannot be read or is another user's."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            return msgspec.json.decode(file.read(), type=Cluster)
    except (OSError, ValueError, RecursionError):  # gone, no JSON, no UTF-8, or nested too deeply
        return None


def alive(cluster: Cluster) -> bool:
    """Whether a cluster still runs: its supervisor does, or its session manager answers."""
    return is_component(cluster.supervisor, "supervisor", cluster.data_dir) or answers(
        cluster.endpoint.removeprefix("unix://")
    )


def running_cluster() -> Cluster | None:
    """The local cluster of this user that is alive: the one started last, else that of the default data directory."""
    for path in (paths.pointer_file(), paths.cluster_file(str(paths.default_data_dir()))):
        cluster = read(path)
        if cluster is not None and alive(cluster):
            return cluster
    return None
