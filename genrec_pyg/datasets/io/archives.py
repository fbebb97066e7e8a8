r"""Zip archives from outside, of which chosen members are unpacked."""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from pathlib import Path

from genrec_pyg.exceptions import DataError
from genrec_pyg.utils.files import replacing

#: Most members of an archive.
_MOST_MEMBERS = 1_000_000


def unpack(archive: Path, folder: Path, pattern: str) -> int:
    r"""Unpacks the members whose whole name matches ``pattern``, each whole or not at all.

    Args:
        archive: Zip archive.
        folder: Where they go, by their names.
        pattern: Regular expression, which admits no name that leads out of ``folder``.

    Returns:
        Number of members.

    Raises:
        DataError: If it is no zip archive, is damaged, has no such member, or announces more than
            the disk takes.
    """
    accepted = re.compile(pattern)
    try:
        with zipfile.ZipFile(archive) as file:
            members = [one for one in file.infolist() if accepted.fullmatch(one.filename)]
            size = sum(one.file_size for one in members)
            free = shutil.disk_usage(folder).free
            if len(members) > _MOST_MEMBERS or size > free:
                raise DataError(
                    f'{archive}: announces {len(members)} files of {size} bytes together, accepted '
                    f'are {_MOST_MEMBERS} and the {free} bytes that are free'
                )
            if not members:
                raise DataError(f'{archive}: has no file called as {pattern}')
            for one in members:
                if '..' in one.filename.split('/') or one.filename.startswith('/'):
                    raise DataError(f'{archive}: {one.filename!r} leads out of its folder')
                target = folder / one.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with (
                    replacing(target) as temporary,
                    file.open(one) as source,
                    temporary.open('wb') as out,
                ):
                    # reads no more than is announced, and checks the sum at the end
                    shutil.copyfileobj(source, out, 1 << 20)
            return len(members)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f'{archive}: cannot be unpacked ({error}), accepted is a whole zip archive'
        ) from error
    except OSError as error:
        raise DataError(f'{archive}: cannot be unpacked ({error.strerror or error})') from error
