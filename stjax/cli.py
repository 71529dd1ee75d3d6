"""The face: registers the commands, and turns what a user can mend into one line."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from stjax.atlas import session
from stjax.commands import networks, record, visualize, weights
from stjax.commands.terminal import check_devices, note, refuse
from stjax.errors import UsageError
from stjax.version import __version__

app = typer.Typer(rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def stjax(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Show what a video network has learned."""
    if version:
        Console().print(f"stjax {__version__}", highlight=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")


for command in (
    visualize.visualize,
    networks.models,
    networks.layers,
    record.record,
    weights.convert,
    weights.inspect,
    weights.download,
):
    app.command()(command)


def main() -> None:
    """The entry point: what a user can mend becomes one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows ASCII only, or a pipe that was told so: a strange letter becomes a question mark.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        refuse(str(error))
    except session.Stopped as stop:
        note(stop, style="yellow")
        sys.exit(130)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        # A disk that is full, a folder that may not be read, a name that is too long.
        named = f"{error.filename}: " if error.filename else ""
        refuse(f"{named}{error.strerror or error}")
    except Exception as error:
        # The parser's own errors: an option that does not exist, a number that is none.
        message = getattr(error, "format_message", None)
        if message is not None:
            refuse(message())
        check_devices()
        raise
    else:
        sys.exit(code if isinstance(code, int) else 0)
