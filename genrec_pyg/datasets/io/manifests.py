r"""What a feature file was made from, beside it, and whether that still holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genrec_pyg.datasets.io.regular import file_sha256, list_nested, open_regular
from genrec_pyg.exceptions import DataError
from genrec_pyg.utils.files import write_json

#: Version of the document.
VERSION = 1
_LONGEST = 1 << 26


def manifest_path(features: Path) -> Path:
    r"""``NAME.manifest.json`` of ``NAME.npy``, ``NAME.npz`` or ``NAME.parquet``."""
    return features.with_name(f'{features.stem}.manifest.json')


def source_digest(source: Path) -> str:
    r"""SHA-256 of a file, or of the names and sizes of the files in a folder.

    Raises:
        DataError: If it cannot be read.
    """
    if not source.is_dir():
        return file_sha256(source)
    total = hashlib.sha256()
    for name in list_nested(source):
        total.update(f'{name}\0{os.path.getsize(source / name)}\n'.encode())
    return total.hexdigest()


def write_manifest(features: Path, files: dict[str, str], document: dict[str, Any]) -> None:
    r"""Writes the manifest of a feature file.

    It goes before the files that it describes: until they are there as described they are refused,
    so that a kill in between leaves nothing that is taken for whole.

    Args:
        features: The feature file.
        files: Names of the files that are about to be written and their SHA-256.
        document: What else to tell.
    """
    write_json(manifest_path(features), {'version': VERSION, 'files': files, **document})


def read_manifest(features: Path) -> dict[str, Any] | None:
    r"""The manifest of a feature file, :obj:`None` where there is none.

    Raises:
        DataError: If it cannot be read.
    """
    path = manifest_path(features)
    if not path.is_file():
        return None
    try:
        with open_regular(path) as file:
            document = json.loads(file.read(_LONGEST))
        if document['version'] != VERSION or not isinstance(document['files'], dict):
            raise ValueError(f'version {document["version"]!r}')
    except DataError:
        raise
    except Exception as error:  # of damage, or of another program
        raise DataError(
            f'{path}: is no manifest of version {VERSION} ({type(error).__name__}: {error}); '
            'encode again with python -m genrec_pyg.encode'
        ) from error
    return document


def check_manifest(features: Path) -> dict[str, Any] | None:
    r"""Compares a feature file and what it was made from with its manifest.

    The source is compared where it still lies in the same place beside the features.

    Returns:
        The manifest, :obj:`None` where there is none.

    Raises:
        DataError: If the feature file or its ids are not those that the manifest describes, or the
            source has changed since.
    """
    document = read_manifest(features)
    if document is None:
        return None
    again = 'encode again with python -m genrec_pyg.encode'
    for name, digest in document['files'].items():
        file = features.with_name(Path(name).name)
        if not file.is_file():
            raise DataError(f'{file}: is missing, {manifest_path(features)} describes it; {again}')
        if file_sha256(file) != digest:
            raise DataError(
                f'{file}: is not the file that {manifest_path(features)} describes, of '
                f'{_encoder(document)}; it is of another encoder or content, or half '
                f'written: {again}'
            )
    source = document.get('source') or {}
    place = features.parent / str(source.get('path', ''))
    if source.get('path') and place.exists() and source_digest(place) != source.get('sha256'):
        raise DataError(
            f'{features}: was made from other content of {place} than there is now; {again}'
        )
    return document


def content_digest(ids: Iterable[Any], contents: Iterable[bytes]) -> str:
    r"""SHA-256 of items with their content, in order."""
    total = hashlib.sha256()
    for item, content in zip(ids, contents):
        total.update(f'{item}\0'.encode())
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def _encoder(document: dict[str, Any]) -> str:
    encoder = document.get('encoder')
    return str(encoder.get('encoder')) if isinstance(encoder, dict) else 'an unknown encoder'
