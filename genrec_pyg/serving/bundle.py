r"""The folder that a service reads: a manifest, tables and ids, checked before anything is used."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.table_file import parse_json, parse_tables

FORMAT = 'genrec_pyg bundle'
#: Raised with every change that an older reader would misread.
VERSION = 1
MANIFEST = 'manifest.json'
#: Names of all other files: role, first digits of the content's SHA-256, kind. They hold no path.
FILE_NAME = re.compile(r'([a-z][a-z_]{0,31})-([0-9a-f]{16})\.(safetensors|json|pt2|onnx)')
#: Folder of an export that goes on.
WRITING = '.writing-'
#: Kinds by role; others are refused.
ROLES = {
    'tables': 'safetensors',
    'users': 'json',
    'items': 'json',
    'program_user': 'pt2',
    'program_history': 'pt2',
    'onnx_user': 'onnx',
    'onnx_history': 'onnx',
    'history_encoder': 'onnx',
}
#: Those whose content the service uses.
_KEPT = ('tables', 'users', 'items', 'history_encoder')

#: Most bytes of a manifest, far above what an export writes.
MAX_MANIFEST = 1 << 20


class Bundle(NamedTuple):
    r"""A checked bundle.

    Args:
        name: SHA-256 of its manifest, which holds those of all files.
        manifest: The manifest.
        tables: Arrays by name.
        users: Ids of the users ``[U]``.
        items: Ids of the items ``[I]``.
        titles: Titles of the items, where there are any.
        history_encoder: Network of a sequence model as ONNX, where there is one.
    """

    name: str
    manifest: dict[str, Any]
    tables: dict[str, np.ndarray]
    users: list[int | str]
    items: list[int | str]
    titles: list[str | None] | None
    history_encoder: bytes | None = None


def read_bundle(folder: str | Path) -> Bundle:
    r"""Reads and checks a bundle.

    Args:
        folder: Folder that ``python -m genrec_pyg.export`` wrote.

    Raises:
        DataError: Naming the file, if it is missing, is not what the manifest says, belongs to
            another version, lies elsewhere or is none of a bundle's.
    """
    folder = Path(folder)
    name, manifest = _read_manifest(folder)
    files = _check_files(folder, manifest)
    content = {
        role: _read_file(folder, role, entry, keep=role in _KEPT) for role, entry in files.items()
    }
    _check_nothing_else(folder, files)
    tables = parse_tables(content['tables'], folder / files['tables']['name'])
    num_users, num_items = manifest['num_users'], manifest['num_items']
    users, _ = _parse_ids(content['users'], folder / files['users']['name'], num_users)
    items, titles = _parse_ids(content['items'], folder / files['items']['name'], num_items)
    encoder = content.get('history_encoder')
    return Bundle(name, manifest, tables, users, items, titles, encoder)


def manifest_state(folder: str | Path) -> tuple[int, int, int] | None:
    r"""What changes when another bundle takes the place of this one; :obj:`None` where there is
    none.
    """
    try:
        status = os.stat(Path(folder) / MANIFEST)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read_manifest(folder: Path) -> tuple[str, dict[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f'{folder}: holds no {MANIFEST}, accepted is a folder written by python -m '
            'genrec_pyg.export'
        )
    content = _read(path, MAX_MANIFEST)
    manifest = parse_json(content, str(path))
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        found = manifest.get('format') if isinstance(manifest, dict) else type(manifest).__name__
        raise DataError(f'{path}: format is {str(found)[:80]!r}, accepted is {FORMAT!r}')
    version = manifest.get('version')
    if version != VERSION or isinstance(version, bool):
        raise DataError(
            f'{path}: version is {str(version)[:80]!r}, this genrec_pyg reads version {VERSION}; '
            f'export the run again, or serve it with the genrec_pyg that wrote it'
        )
    for key, kind in (
        ('num_users', int),
        ('num_items', int),
        ('members', list),
        ('files', dict),
        ('model', str),
        ('dataset', str),
        ('unable', dict),
        ('metrics', dict),
    ):
        if not isinstance(manifest.get(key), kind) or isinstance(manifest[key], bool):
            raise DataError(
                f'{path}: {key} is {str(manifest.get(key))[:80]!r}, accepted is {kind.__name__}'
            )
    return hashlib.sha256(content).hexdigest(), manifest


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    path = folder / MANIFEST
    for role, entry in manifest['files'].items():
        name = entry.get('name') if isinstance(entry, dict) else None
        found = FILE_NAME.fullmatch(name) if isinstance(name, str) else None
        if role not in ROLES or found is None or (found[1], found[3]) != (role, ROLES[role]):
            raise DataError(
                f'{path}: files names {str(name)[:80]!r} as {role[:40]!r}, accepted are names '
                f'such as tables-0123456789abcdef.safetensors in the folder itself, for '
                f'{", ".join(ROLES)}'
            )
        digest, size = entry.get('sha256'), entry.get('bytes')
        if (
            not isinstance(digest, str)
            or not digest.startswith(found[2])
            or type(size) is not int
            or size < 0
        ):
            raise DataError(
                f'{path}: sha256 and bytes of {name} are {str(digest)[:80]!r} and '
                f'{str(size)[:40]!r}, accepted are the digest that its name begins and a size'
            )
    for role in ('tables', 'users', 'items'):
        if role not in manifest['files']:
            raise DataError(f'{path}: files lacks {role!r}, accepted is a bundle with it')
    return manifest['files']


def _read_file(folder: Path, role: str, entry: Mapping[str, Any], keep: bool) -> bytes:
    r"""Content of a file after its size and digest were checked; nothing where it need not be
    kept.
    """
    path = folder / entry['name']
    content = _read(path, entry['bytes'])
    if len(content) != entry['bytes']:
        raise DataError(
            f'{path}: has {len(content)} bytes, accepted are the {entry["bytes"]} of the manifest'
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry['sha256']:
        raise DataError(
            f'{path}: its SHA-256 is {digest}, accepted is {entry["sha256"]}: it was changed after '
            'the export'
        )
    return content if keep else b''


def _read(path: Path, at_most: int) -> bytes:
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
        )
    except OSError as error:
        raise DataError(
            f'{path}: cannot be read ({error.strerror}), accepted is a file, no link'
        ) from error
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > at_most:
            raise DataError(
                f'{path}: has {status.st_size} bytes or is no file, accepted is a file of up to '
                f'{at_most} bytes'
            )
        return file.read(at_most + 1)


def _parse_ids(
    content: bytes, path: Path, count: int
) -> tuple[list[int | str], list[str | None] | None]:
    document = parse_json(content, str(path))
    ids = document.get('ids') if isinstance(document, dict) else None
    if (
        not isinstance(ids, list)
        or len(ids) != count
        or not all(type(raw) in (int, str) for raw in ids)
    ):
        raise DataError(f'{path}: ids are not {count} numbers or texts, accepted is one per row')
    titles = document.get('titles')
    if titles is not None and not (
        isinstance(titles, list)
        and len(titles) == count
        and all(title is None or isinstance(title, str) for title in titles)
    ):
        raise DataError(f'{path}: titles are not {count} texts, accepted is one or null per item')
    return ids, titles


def _check_nothing_else(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    r"""Refuses what an export never writes; names that begin with a dot are the file system's or an
    export's that goes on.
    """
    for entry in os.scandir(folder):
        known = (
            entry.name == MANIFEST or entry.name.startswith('.') or FILE_NAME.fullmatch(entry.name)
        )
        if not known and not entry.is_dir(follow_symlinks=False):
            raise DataError(
                f'{folder}: holds {entry.name!r}, which its manifest does not name; accepted are '
                f'the files of an export and no other, such as pickles'
            )
