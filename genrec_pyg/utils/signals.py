r"""Signal handling while this process waits inside a library."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def system_signals() -> Iterator[None]:
    r"""Within this context SIGINT and SIGTERM end the process at once, unless they are ignored.

    Python runs its handlers only when a call into C++ has returned, which a wait for other
    processes may never do. Nothing is cleaned up, so only a process that has nothing to clean up
    may wait like this. Handlers can be set in the main thread alone; in others this context changes
    nothing.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):  # a handler of Python's
                previous[number] = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
