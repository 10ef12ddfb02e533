"""Turns what goes wrong in a command into one clear message and an exit code."""

import sys
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperGroup

from trainable.errors import InputError, TrainableError, nearest

# The base of every complaint about arguments, which typer does not export.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
USAGE = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """The commands; every end is an exit code, and none a traceback for what a user did."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line and exit, unless `standalone_mode` is false."""
        if not kwargs.pop("standalone_mode", True):
            return super().main(*args, standalone_mode=False, **kwargs)
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
        except UsageError as error:
            _complain(error)
            code = USAGE
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except TrainableError as error:
            from trainable.cli.console import show_error

            show_error(error)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            from trainable.cli.console import mute

            mute()
            raise typer.Exit from None
        except KeyboardInterrupt:
            from trainable.cli.console import people

            people().print("\nInterrupted.")
            raise typer.Exit(INTERRUPTED) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; what is none gets the nearest name, or the command for a file."""
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        hint = nearest(name, self.commands)
        if not hint and Path(name).exists():
            hint = f"To work on that data: trainable run {name} "
        raise InputError(
            f"There is no command {name!r}.", remedy=f"{hint}trainable --help lists them."
        )


def _complain(error: typer.BadParameter) -> None:
    from trainable.cli.console import show_error

    context = error.ctx
    path = context.command_path if context is not None else "trainable"
    text = " ".join(error.format_message().split())
    show_error(InputError(text, remedy=f"{path} --help says what it takes."))
