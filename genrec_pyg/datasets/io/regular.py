r"""Opening of files that may be anything."""
from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import BinaryIO

from genrec_pyg.exceptions import DataError


def open_regular(path: Path) -> BinaryIO:
    r"""Opens a file for reading, links followed. A pipe is refused, because opening it would wait for a writer.

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
