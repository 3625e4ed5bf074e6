"""What the three command lines share: version, exit codes, and errors in one line."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from flame import __version__
from flame.cli import errors

F = TypeVar("F", bound=Callable[..., Any])


def version_option(name: str) -> Callable[[F], F]:
    """The option `--version`."""

    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            click.echo(f"{name} {__version__}")
            context.exit()

    return click.option(
        "--version", is_flag=True, expose_value=False, is_eager=True, callback=show, help="Show the version and exit."
    )


def run_click(command: click.Command, name: str, arguments: Sequence[str] | None) -> int:
    """Run a click command; return the exit code. A command returns its own, or None for 0."""

    def run() -> int:
        try:
            result = command.main(args=arguments, prog_name=name, standalone_mode=False)
        except click.Abort as abort:
            return errors.code_of(abort.__cause__)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return errors.USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else name
            errors.say_error(f"{error.format_message().rstrip('.')} (see {path} --help)")
            return errors.USAGE
        except click.ClickException as error:
            errors.say_error(error.format_message())
            return errors.FAILURE
        return result if isinstance(result, int) else errors.OK

    return errors.run(run)
