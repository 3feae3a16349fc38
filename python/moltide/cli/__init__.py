"""The `moltide` command. One module a subcommand; heavy imports happen when one runs."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    0: done. 2: something about the input, said in one line. 130 or 143: stopped by a signal.
    1: a fault of moltide itself.
    """
    alone = arguments is None  # in a process of its own, not called from Python
    if alone:
        _collect_later()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("MOLTIDE_DEBUG"))
    given = [one for one in given if one != "--debug"]
    # A closed pipe (`moltide ... | head`) ends the command as it ends any other.
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        from moltide.cli.app import build, flags_of
        from moltide.options import typed_options

        command = build(given[0] if given else None)
        if alone:
            gc.freeze()
            gc.enable()
        with typed_options(flags_of(command, given)):
            code = command(given, standalone_mode=False, prog_name="moltide")
    except SystemExit as stop:
        return int(stop.code) if isinstance(stop.code, int) else 1
    except BaseException as error:
        from moltide.cli.errors import explain

        return explain(error, given, debug)
    return code if isinstance(code, int) else 0


def _collect_later() -> None:
    """No search for garbage while modules are imported, nor at the end of the process."""
    gc.disable()
    atexit.register(gc.freeze)
