r"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.utils.locks import LOCK, release, take


@contextmanager
def creating(path: Path, doing: str) -> Iterator[Path]:
    r"""Yields a hidden folder beside ``path`` that becomes ``path`` at the end of the block.

    Whatever ends the block early, a kill included, leaves no ``path``. What a killed process left
    is removed by the next one, and a second process is told so while the first one works.

    Args:
        path: Folder that does not exist yet, or is empty.
        doing: What is done, for the message of a second process.

    Raises:
        ConfigError: If there is something at ``path``, or another process makes it.
        OutputError: If the system refuses (disk full, no permission).
    """
    path = Path(os.path.abspath(path))
    _check_free(path)
    hidden = path.with_name(f'.{path.name}.{doing}')
    try:
        hidden.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{path}: cannot be made ({error.strerror})') from error
    lock = take(hidden, path, doing)
    try:
        _check_free(path)
        for left in hidden.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        whole = hidden / 'whole'
        whole.mkdir()
        yield whole
        _sync(whole)
        try:
            os.rename(whole, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                _check_free(path)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f'{path}: cannot be written ({error.strerror or error}); nothing is left of it'
        ) from error
    finally:
        for left in hidden.iterdir():
            if left.name != LOCK:
                shutil.rmtree(left, ignore_errors=True)
        release(hidden, lock)
        with contextlib.suppress(OSError):  # another process has taken it meanwhile
            hidden.rmdir()


def _check_free(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink() or any(path.iterdir()):
        raise ConfigError(
            f'--output: {path} is there already; accepted is a folder that is not, or an empty one'
        )


def _sync(folder: Path) -> None:
    for file in folder.rglob('*'):
        if file.is_file():
            with file.open('rb') as content:
                os.fsync(content.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
