r"""Files and folders that may be anything: opened, listed and hashed with errors that name them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from genrec_pyg.exceptions import DataError

#: First bytes of gzip, zip, bzip2, xz and zstd.
_PACKED = (b'\x1f\x8b', b'PK\x03\x04', b'BZh', b'\xfd7zX', b'\x28\xb5\x2f\xfd')
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def open_regular(path: Path) -> BinaryIO:
    r"""Opens a file for reading, links followed. A pipe is refused, because opening it would wait
    for a writer.

    Raises:
        DataError: If the file is missing, may not be read, or is a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = 'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'
            raise DataError(f'{path}: cannot be read (is {kind}, accepted is a file)')
        return path.open('rb')
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error


def is_packed(content: bytes) -> bool:
    r"""Whether the first bytes of a file are those of a compressed one."""
    return content.startswith(_PACKED)


def list_folder(path: Path, pattern: str = '*') -> list[str]:
    r"""Sorted names in a folder that match ``pattern``, none where there is no folder. Hidden ones
    are left out.

    Raises:
        DataError: If the folder may not be read.
    """
    try:
        return sorted(
            name
            for name in os.listdir(path)
            if fnmatchcase(name, pattern) and not name.startswith('.')
        )
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return []
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error


def list_nested(path: Path) -> list[str]:
    r"""Sorted names in a folder, and ``FOLDER/NAME`` of what is in folders of it.

    Raises:
        DataError: If a folder may not be read.
    """
    found = []
    for name in list_folder(path):
        inner = list_folder(path / name) if os.path.isdir(path / name) else []
        found += [f'{name}/{one}' for one in inner] or [name]
    return found


def file_sha256(path: Path) -> str:
    r"""Computes the SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            for block in iter(lambda: file.read(1 << 20), b''):
                digest.update(block)
    except OSError as error:  # a disk may fail while it is read
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error
    return digest.hexdigest()
