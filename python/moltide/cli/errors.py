"""Any exception as one line for a person, and an exit code for a script."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

BAD_INPUT, FAULT = 2, 1


class Stopped(Exception):
    """A command was stopped by the signal `signum`."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = int(signum)


def explain(error: BaseException, arguments: Sequence[str], debug: bool) -> int:
    """Print what happened on standard error; returns the exit code."""
    from moltide.errors import MoltideError

    if isinstance(error, Stopped | KeyboardInterrupt):
        return _stopped(getattr(error, "signum", 2), arguments)
    if debug:
        traceback.print_exception(error)
    # Typer brings click along under one name or another; its base class is found by name.
    if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
        return _usage(error)
    if isinstance(error, OSError):
        say(_os_error(error))
        return BAD_INPUT
    if isinstance(error, MoltideError):
        say(str(error))
        return BAD_INPUT
    if isinstance(error, MemoryError):
        say("out of memory; a smaller --max-tokens or --backbone helps")
        return BAD_INPUT
    say(
        f"internal error: {type(error).__name__}: {error} (this should not happen; run again with "
        "--debug and report it)"
    )
    return FAULT


def say(message: str, label: str = "error", style: str = "bold red") -> None:
    """One line on standard error."""
    text = " ".join(message.split())
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True, highlight=False).print(
            f"[{style}]{label}:[/{style}] " + text.replace("[", r"\["), soft_wrap=True
        )
    else:
        print(f"{label}: {text}", file=sys.stderr)


def note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """`warnings.showwarning` as one line on standard error."""
    del filename, lineno, file, line
    kind = "" if category is UserWarning else f"{category.__name__}: "
    say(f"{kind}{message}", "note", "bold")


def _usage(error: Any) -> int:
    message = " ".join(error.format_message().split()).rstrip(".")
    if not message:  # `moltide` alone has shown its help
        return 0
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    say(message + hint)
    return BAD_INPUT


def _os_error(error: OSError) -> str:
    where = error.filename or ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full{f': {where}' if where else ''}; complete files are as they were"
    if error.errno == errno.EFBIG:
        return f"file too large for the limit set here{f': {where}' if where else ''}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"not permitted: {where or error}"
    if error.strerror and where:
        return f"{error.strerror}: {where}"
    return str(error)


def _stopped(signum: int, arguments: Sequence[str]) -> int:
    import shlex

    resumes = ("finetune", "pretrain", "predict")
    if arguments and arguments[0] in resumes and not {"--dry-run", "-"} & {*arguments}:
        command = shlex.join(["moltide", *arguments])
        print(f"\nstopped; the same command goes on from here:\n  {command}", file=sys.stderr)
    else:
        print("\nstopped", file=sys.stderr)
    return 128 + int(signum)
