"""`flame`: start, stop and look at a local cluster, and run its components."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `python -m flame.cli.flame` is the same."""
    arguments = sys.argv[1:] if arguments is None else arguments
    from flame.cli import component_commands

    if arguments and arguments[0] in component_commands.COMMANDS and not {"--help", "--version"} & set(arguments):
        sys.exit(component_commands.main(arguments))
    from flame.cli.click_support import run_click
    from flame.cli.cluster_commands import flame

    sys.exit(run_click(flame, "flame", arguments))


if __name__ == "__main__":
    main()
