r"""Writing of bundles: whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.serving.bundle import FILE_NAME, FORMAT, MANIFEST, ROLES, VERSION, WRITING
from genrec_pyg.utils.files import write_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

#: Writes a file at the path given.
Write = Callable[[Path], Any]


def check_destination(folder: Path) -> None:
    r"""Refuses a folder that is no bundle's, before the work.

    Raises:
        ConfigError: If it is a file, or holds anything else than a bundle.
        OutputError: If it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f'--output: {folder} is a file, accepted is a folder, new, empty or with a bundle'
        )
    if folder.is_dir():
        for entry in os.scandir(folder):
            if not (
                entry.name == MANIFEST
                or entry.name.startswith('.')
                or FILE_NAME.fullmatch(entry.name)
            ):
                raise ConfigError(
                    f'--output: {folder} holds {entry.name!r}, accepted is a folder, new, empty '
                    f'or with a bundle, which is replaced'
                )
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f'{folder}: cannot be written, {existing} is no folder or gives no permission'
        )


def write_bundle(
    folder: Path,
    manifest: Mapping[str, Any],
    tables: Mapping[str, np.ndarray],
    documents: Mapping[str, Any],
    programs: Mapping[str, Write] | None = None,
) -> dict[str, Any]:
    r"""Writes a bundle, or puts it in the place of the one that is there.

    Every file is named after its content and the manifest is replaced last, in one step: until then
    the folder is what it was, and a service that watches it changes from one whole bundle to the
    next.

    Args:
        folder: Folder, see :func:`check_destination`.
        manifest: What is known of the bundle but its files.
        tables: Arrays by name.
        documents: JSON documents by role.
        programs: What writes a program, by role.

    Returns:
        The whole manifest.

    Raises:
        OutputError: If the system refuses; the folder is then as it was.
        ConfigError: As :func:`check_destination`, or if another export writes there.
    """
    check_destination(folder)
    made = not folder.exists()
    moved: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            for left in folder.glob(f'{WRITING}*'):  # by an export that was killed
                shutil.rmtree(left, ignore_errors=True)
            files = _write_files(folder, tables, documents, programs or {}, moved)
            whole = {'format': FORMAT, 'version': VERSION, **manifest, 'files': files}
            write_json(folder / MANIFEST, whole)
            moved.clear()
            names = {entry['name'] for entry in files.values()}
            for path in folder.iterdir():  # of the bundle before
                if FILE_NAME.fullmatch(path.name) and path.name not in names:
                    path.unlink(missing_ok=True)
            return whole
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f'{folder}: cannot be written ({error}); what was there is untouched'
        ) from error
    finally:
        for path in moved:
            with suppress(OSError):
                path.unlink()
        if made:
            with suppress(OSError):  # a bundle is in it
                folder.rmdir()


def _write_files(
    folder: Path,
    tables: Mapping[str, np.ndarray],
    documents: Mapping[str, Any],
    programs: Mapping[str, Write],
    moved: list[Path],
) -> dict[str, dict[str, Any]]:
    from safetensors.numpy import save_file

    ordered = {name: np.ascontiguousarray(tables[name]) for name in sorted(tables)}
    writers: dict[str, Write] = {'tables': lambda path: save_file(ordered, path)}
    for role, document in documents.items():
        text = json.dumps(document, ensure_ascii=False, separators=(',', ':'))
        writers[role] = lambda path, text=text: path.write_text(text, 'utf-8')
    files = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=WRITING) as temporary:
        for role, write in {**writers, **programs}.items():
            path = Path(temporary) / f'{role}.{ROLES[role]}'
            write(path)
            with path.open('rb') as file:
                digest = (
                    hashlib.file_digest(file, 'sha256').hexdigest()
                    if hasattr(hashlib, 'file_digest')
                    else hashlib.sha256(file.read()).hexdigest()
                )
                os.fsync(file.fileno())
            final = folder / f'{role}-{digest[:16]}.{ROLES[role]}'
            files[role] = {'name': final.name, 'sha256': digest, 'bytes': path.stat().st_size}
            if not final.exists():
                moved.append(final)
            path.chmod(0o666 & ~_umask())
            os.replace(path, final)
    return files


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    r"""Keeps a second export out of the folder."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(
            f'--output: another export writes into {folder}, accepted is waiting for it'
        ) from error
    finally:
        os.close(descriptor)
