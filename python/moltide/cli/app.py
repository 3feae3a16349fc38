"""The command with its subcommands."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from moltide.cli.errors import Stopped, note

_HELP = """Fine-tune protein language models on assay data, with honest baselines beside them.

Start with [bold]moltide finetune ASSAY.csv --out RUN/[/bold], then
[bold]moltide predict RUN/ NEW.csv -o out.csv[/bold].
"""
_EPILOG = """Examples:

  moltide finetune assay.csv --out runs/gb1

  moltide predict runs/gb1 new.csv -o predictions.csv

  moltide embed proteins.fasta -o embeddings.npy

  moltide score --wildtype parent.fasta -o scan.csv --heatmap scan.html

""" + (
    "Errors are one line on standard error with exit code 2; [bold]--debug[/bold] (or "
    "MOLTIDE_DEBUG=1) adds the traceback."
)


# In the order of the help.
COMMANDS = ("finetune", "predict", "embed", "score", "pretrain", "info")


def build(first: str | None = None) -> Any:
    """The click command. With the name of a subcommand as the `first` argument it has that one
    alone: the others' options take time to make."""
    app = typer.Typer(
        name="moltide",
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in (first,) if first in COMMANDS else COMMANDS:
        module = importlib.import_module(f"moltide.cli.{name}")
        app.command(help=module.HELP, epilog=module.EPILOG)(stoppable(module.COMMAND))
    return typer.main.get_command(app)


def flags_of(app: Any, arguments: Sequence[str]) -> dict[str, str]:
    """Flag by option name, of the subcommand that `arguments` call."""
    command = app.commands.get(arguments[0]) if arguments else None
    return {
        parameter.name: next((o for o in parameter.opts if o[:2] == "--"), parameter.opts[0])
        for parameter in getattr(command, "params", ())
        if parameter.param_type_name == "option"
    }


def stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with Ctrl-C as an exception that typer does not make its own end of, and with
    warnings as notes of one line."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.showwarning = note
            try:
                command(*arguments, **options)
            except KeyboardInterrupt as error:
                raise Stopped(getattr(error, "signum", signal.SIGINT)) from error

    return run


def _show_version(wanted: bool) -> None:
    if wanted:
        import moltide

        typer.echo(moltide.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
) -> None:
    del version
    if "MOLTIDE_NUM_THREADS" in os.environ or "MOLTIDE_ISA" in os.environ:
        _check_engine()
    # Our error says what was tried; the Hub library's log of every retry is for its own users.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def _check_engine() -> None:
    """What the environment asks of the engine is there, before anything is computed."""
    from moltide import _engine
    from moltide.errors import ConfigError

    try:
        _engine.num_threads()
        _engine.active_isa()
    except ValueError as error:
        raise ConfigError(str(error)) from error
