"""What a node registers: as configured, else as found."""

from flame.config import capacity
from flame.config.components import ExecutorManagerConfig
from flame.model.errors import ConfigurationError
from flame.model.resources import Resources


def capacity_of(config: ExecutorManagerConfig) -> Resources:
    """The node's resources: as configured, else as found.

    Raises:
        ConfigurationError: a configured value that cannot be read, or the machine's memory is unknown.
    """
    memory_bytes = Resources.parse(f"mem={config.memory}").memory_bytes if config.memory else 0
    memory_bytes = memory_bytes or capacity.memory_bytes(config.root)
    if not memory_bytes:
        raise ConfigurationError(
            f"the memory of this node cannot be read below {config.root}",
            hint="set `memory` of the executor manager",
        )
    return Resources(cpu=config.cpu or capacity.cpus(config.root), memory_bytes=memory_bytes, gpu=config.gpu)
