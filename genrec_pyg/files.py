r"""Files that are whole or absent."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    r"""Gives a temporary path of the same name beside ``path``; what lies there at the end of the block replaces ``path``.

    An error in the block, a full disk or an interruption leaves ``path`` as it was. The temporary file lies in a folder of its
    own, so that one left behind by a killed process is never taken for data.

    Args:
        path: Destination; its folder is made.

    Raises:
        OSError: If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.writing-') as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
