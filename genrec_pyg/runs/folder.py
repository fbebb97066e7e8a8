r"""The folder of a run, held by one training at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.utils.locks import release, take

#: Folder of the runs that a blend is made of.
MEMBERS = 'members'
#: What a training or a blend writes; a folder with any of it is taken.
CONTENT = (
    'config.yaml',
    'metrics.json',
    'metrics.jsonl',
    'environment.json',
    'train.log',
    'checkpoints',
    'tensorboard',
    'trackers.json',
    *(f'{table}-{split}.parquet' for table in ('users', 'pairs') for split in ('val', 'test')),
    MEMBERS,
)


class RunFolder:
    r"""The folder of a run, from :meth:`create` or :meth:`open`; no other process gets it while
    this one holds it.

    As a context manager it is released at the end of the block. Until :meth:`keep` is called, an
    error or an interruption removes a folder that was made for the run.

    Args:
        path: The folder.
        lock: Descriptor of its lock file; :obj:`None` if it is not taken yet.
        made: Folders made for it, outermost first.
    """

    def __init__(self, path: Path, lock: int | None, made: Iterable[Path] = ()):
        self.path = path
        self._lock = lock
        self._made = tuple(made)
        self._keep = False

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        r"""Takes a folder for a new run, made if need be.

        Raises:
            ConfigError: If it holds a run, another process has it, or it cannot be a folder.
            OutputError: If this process may not write there.
        """
        _check_free(path)
        made = _make_folders(path)
        folder = cls(path, None, made)
        try:
            folder._lock = take(path, path, 'training')
            _check_free(path)  # again, since another run may have ended between the two
            return folder
        except BaseException:
            folder.__exit__(*((None,) * 3))
            raise

    @classmethod
    def create_numbered(cls, path: Path) -> RunFolder:
        r"""Takes ``path`` for a new run, or ``path-2``, ``path-3`` and so on where it exists.

        Raises:
            OutputError: If this process may not write there.
        """
        number, candidate, vanished = 1, path, 0
        while True:
            try:
                made = [*_make_folders(path.parent), candidate]
                candidate.mkdir()  # of several processes one succeeds
                folder = cls(candidate, None, made)
                folder._lock = take(candidate, candidate, 'training')
                return folder
            except FileExistsError:
                number += 1
                candidate = path.with_name(f'{path.name}-{number}')
            except OSError as error:
                # Another process may have removed the outer folder, which it had made.
                vanished += isinstance(error, FileNotFoundError)
                if isinstance(error, FileNotFoundError) and vanished < 10:
                    continue
                raise OutputError(
                    f'{candidate}: cannot be made ({error.strerror}); --output names another folder'
                ) from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        r"""Takes the folder of a run that goes on.

        Raises:
            ConfigError: If another process has it.
            OutputError: If this process may not write there.
        """
        folder = cls(path, take(path, path, 'training'))
        folder._keep = True
        # by a process that was killed, as large as a checkpoint
        for left in (path / 'checkpoints').glob('.writing-*'):
            shutil.rmtree(left, ignore_errors=True)
        return folder

    def keep(self) -> None:
        r"""From here on the folder stays, whatever happens."""
        self._keep = True

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            release(self.path, self._lock)
            self._lock = None
        if not self._keep:
            with suppress(OSError):  # whatever somebody else has put there stays
                for folder in reversed(self._made):
                    folder.rmdir()


def _check_free(path: Path) -> None:
    if (path / 'config.yaml').exists():
        raise ConfigError(
            f'--output: {path} already holds a run; accepted is another folder, or --resume {path}'
        )
    for name in CONTENT:
        if os.path.lexists(path / name):
            raise ConfigError(
                f'--output: {path} already holds {name!r}; accepted is another folder'
            )


def _make_folders(path: Path) -> list[Path]:
    r"""Makes ``path`` with the folders above it; returns those that were not there, outermost
    first.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        found = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
        raise ConfigError(
            f'{path}: cannot be made, {found} is no folder; accepted is a folder that can be made'
        ) from error
    except OSError as error:
        raise OutputError(f'{path}: cannot be made ({error.strerror})') from error
    return missing[::-1]
