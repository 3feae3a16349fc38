"""Ctrl-C and SIGTERM as a request that training answers between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training stopped on request, its state saved. `signum` is the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """Set by a signal; asked by the loop."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None


@contextlib.contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Within, the first SIGINT or SIGTERM only sets the request; a second one interrupts at once,
    and a request that nobody answered does so at the end.

    Outside the main thread, where Python delivers no signals, nothing is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        if request:
            raise Interrupted(signum)
        request.signum = signum

    before: dict[int, Any] = {}
    try:
        for caught in (signal.SIGINT, signal.SIGTERM):
            before[caught] = signal.signal(caught, handle)
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if request.signum is not None:  # it came too late for the loop to answer
        raise Interrupted(request.signum)
