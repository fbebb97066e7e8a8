r"""Complete writing of files and standard output, or an error."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from genrec_pyg.exceptions import OutputError

#: Names of this process's own open files.
_DESCRIPTOR = re.compile(r'/(?:dev|proc/self)/fd/(\d+)')
_STANDARD = {'/dev/stdin': 0, '/dev/stdout': 1, '/dev/stderr': 2}
#: The system calls take at most 2 GiB at a time.
_BLOCK = 1 << 24


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    r"""Yields a temporary path of the same name; the file written there becomes ``path`` at the end
    of the block.

    An error in the block, a full disk or an interruption leaves ``path`` as it was. The temporary
    file lies in a folder of its own, so that the one of a killed process is never taken for data. A
    link is followed. A device or a pipe is written to, not replaced, and so is a file that can be
    written where its folder cannot. An existing file keeps its owner and permissions.

    Args:
        path: Destination; its folder is made.

    Raises:
        OSError: If the system refuses.
    """
    path = Path(path)
    descriptor = _descriptor(path)
    if descriptor is None and not _is_stream(path):
        path = Path(os.path.realpath(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        in_place = path.exists() and not _can_make_files(path.parent)
    else:
        in_place = True
    with tempfile.TemporaryDirectory(
        dir=None if in_place else path.parent, prefix='.writing-'
    ) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
        if not in_place:
            if path.exists():
                _copy_access(path, temporary)
            try:
                os.replace(temporary, path)
                _sync_folder(path.parent)
                return
            except OSError as error:
                # a file mounted on its own, as containers do
                if error.errno not in (errno.EBUSY, errno.EXDEV):
                    raise
        with (
            temporary.open('rb') as source,
            open(path if descriptor is None else os.dup(descriptor), 'wb') as target,
        ):
            shutil.copyfileobj(source, target, _BLOCK)


def write_atomically(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    r"""Replaces ``path`` by what ``write`` puts into a file, or leaves it as it was; see
    :func:`replacing`.

    Args:
        path: Destination; its folder is made.
        write: Receives the open temporary file.

    Raises:
        OutputError: If the system refuses (disk full, no permission); nothing half written remains.
    """
    try:
        with replacing(path) as temporary, temporary.open('wb') as file:
            write(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = _refusal(error)
        raise OutputError(
            f'{path}: cannot be written ({reason}); the previous file, if any, is untouched'
        ) from error


def write_json(path: str | Path, document: Any) -> None:
    r"""Writes ``document`` as JSON, atomically."""
    write_atomically(
        path, lambda file: file.write((json.dumps(document, indent=2) + '\n').encode())
    )


def check_writable(path: str | Path) -> None:
    r"""Refuses a destination of :func:`replacing` that cannot be written, before the work that
    leads to its content.

    Raises:
        OutputError: Naming the reason.
    """
    if str(path).endswith(os.sep) or Path(path).is_dir():
        raise OutputError(f'{path}: is a folder, accepted is the name of a file')
    if _descriptor(Path(path)) is not None:
        return
    real = Path(os.path.realpath(path))
    existing = next(folder for folder in real.parents if folder.exists())
    if not existing.is_dir():
        raise OutputError(f'{path}: cannot be made, {existing} is no folder')
    # The path as given: the target of a link to an open pipe has no name.
    there = Path(path).exists()
    writable = os.access(path, os.W_OK) if there else _can_make_files(existing)
    if not writable:
        raise OutputError(f'{path}: cannot be written, no permission in {existing}')


def check_stdout() -> None:
    r"""Refuses a closed standard output, before the work that leads to its content.

    Raises:
        OutputError: If the process was started without one.
    """
    if sys.stdout is None:
        raise OutputError(
            'standard output is closed, accepted is an open one (such as > /dev/null)'
        )


def write_stdout(content: str | bytes) -> None:
    r"""Writes all of ``content`` to standard output, whatever its buffering.

    Characters that the encoding of the terminal lacks are written as escapes.

    Raises:
        OutputError: If the system refuses (disk full, reader gone, closed).
    """
    check_stdout()
    stream = sys.stdout
    if isinstance(content, str):
        content = content.encode(getattr(stream, 'encoding', None) or 'utf-8', 'backslashreplace')
    try:
        stream.flush()
        binary = getattr(stream, 'buffer', None)
        if binary is None:  # replaced by the caller, as notebooks do
            stream.write(
                content.decode(getattr(stream, 'encoding', None) or 'utf-8', 'backslashreplace')
            )
        else:
            # A buffered writer may lose what a non-blocking pipe does not take, so its raw file is
            # written to.
            raw, rest = getattr(binary, 'raw', binary), memoryview(content)
            while rest:
                written = raw.write(rest[:_BLOCK])
                if written is None:
                    select.select([], [raw], [])
                rest = rest[written or 0 :]
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: closed since the start
        raise OutputError(f'standard output: cannot be written ({error})') from error


def _refusal(error: BaseException) -> BaseException:
    r"""Returns the error of the system behind one that torch raised."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found or error


def _descriptor(path: Path) -> int | None:
    r"""Number of the open file of this process that ``path`` names, which opening it once more
    would truncate.
    """
    name = os.path.abspath(path)
    found = _DESCRIPTOR.fullmatch(name)
    return int(found[1]) if found else _STANDARD.get(name)


def _is_stream(path: Path) -> bool:
    r"""Whether ``path`` is a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _copy_access(source: Path, target: Path) -> None:
    r"""Gives ``target`` the owner, where this process may, and the permissions of ``source``."""
    status = source.stat()
    with suppress(OSError):
        os.chown(target, status.st_uid, status.st_gid)
    shutil.copymode(source, target)


def _can_make_files(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _sync_folder(folder: Path) -> None:
    r"""Makes the new name of a file outlast a crash of the system, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
