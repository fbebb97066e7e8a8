r"""Folders that one process holds at a time."""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

from genrec_pyg.exceptions import ConfigError, OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = '.lock'
#: Answers of file systems that do not lock.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def take(path: Path, shown: Path, doing: str) -> int:
    r"""Locks the lock file of a folder; the system releases it when this process ends, however it
    ends.

    Args:
        path: Folder.
        shown: Its name in messages.
        doing: What the holder does there, for messages.

    Returns:
        Descriptor of the lock file, for :func:`release`.

    Raises:
        ConfigError: If another process holds it.
        OutputError: If this process may not write there.
    """
    name = path / LOCK
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(f'{shown}: cannot be written ({error.strerror})') from error
        _lock(descriptor, shown, doing)
        # else the holder before has removed it, and a new one may lie there
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(name)):
                os.truncate(descriptor, 0)
                os.write(descriptor, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
                return descriptor
        os.close(descriptor)


def release(path: Path, descriptor: int) -> None:
    r"""Releases what :func:`take` took."""
    with suppress(OSError):
        # before it is released: whoever opened it meanwhile sees that it is gone
        (path / LOCK).unlink()
    os.close(descriptor)


def _lock(descriptor: int, shown: Path, doing: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            logger.warning(
                '%s: its file system does not lock files, so nothing keeps a second process out',
                shown,
            )
            return
        holder = os.read(descriptor, 1000).decode(errors='replace').strip() or 'another process'
        os.close(descriptor)
        raise ConfigError(
            f'{shown}: {holder} is {doing} there; accepted is another folder, or waiting for it'
        ) from error
