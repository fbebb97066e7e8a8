r"""Ending a command on SIGINT, SIGTERM and SIGHUP, also within a long call into compiled code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Exit code of an interrupted command.
INTERRUPTED = 130


@contextmanager
def interruptible(patience: float = 2.0, cleanup: float = 30.0) -> Iterator[None]:
    r"""Within the block the three signals raise :class:`KeyboardInterrupt`, or end the process
    where that cannot happen.

    Python runs its handlers between two instructions, so a signal does nothing until a call into
    compiled code returns, which may take minutes. A thread waits for that and then ends the
    process. Files are replaced atomically, so this leaves at most a temporary one behind. Signals
    that the caller ignores or handles itself stay as they are. In a thread other than the main one,
    which may not handle signals, the block runs as it is.

    Args:
        patience: Seconds in which the exception must have been raised.
        cleanup: Seconds in which the block must then have ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised, done = threading.Event(), threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raised.set()
        raise KeyboardInterrupt

    numbers = [
        getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
    ]
    numbers = [
        number
        for number in numbers
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    ]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while received := os.read(reader, 1):
            if received[0] in numbers and not (raised.wait(patience) and done.wait(cleanup)):
                with suppress(OSError, AttributeError):
                    os.write(sys.stderr.fileno(), b'interrupted\n')
                os._exit(INTERRUPTED)

    thread = threading.Thread(target=watch, name='signals', daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)
