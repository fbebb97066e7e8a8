r"""Prepared folders with feature files that came later, such as those of ``python -m
genrec_pyg.encode``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch_geometric.data import HeteroData

from genrec_pyg.datasets.feature_checks import check_features
from genrec_pyg.datasets.prepared import read_manifest, read_prepared
from genrec_pyg.datasets.table import add_features, features_beside, item_features
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import ITEM

logger = logging.getLogger(__name__)


def read_prepared_and_beside(
    folder: Path, choice: Mapping[str, str | None] | None = None, check: str = 'error'
) -> HeteroData:
    r"""The canonical graph of a prepared folder, see
    :func:`~genrec_pyg.datasets.prepared.read_prepared`, and the modalities of the feature files
    that lie in the folder itself, with their ids. The items stay those of the preparation: rows of
    others are left out.

    Args:
        folder: Folder that ``python -m genrec_pyg.prepare`` wrote.
        choice: Modality to file, :obj:`None` for that of its name; :obj:`None` takes all.
        check: What follows from features that do not belong to the items, see
            :func:`~genrec_pyg.datasets.feature_checks.check_features`.

    Raises:
        ConfigError: If there is no such modality or file, or a file has the name of a prepared
            modality.
        DataError: If the folder or a file is damaged, or a file has rows of other items only.
    """
    manifest = read_manifest(folder)
    prepared = list(manifest['features'])
    files = features_beside(folder)
    twice = sorted(set(prepared) & set(files))
    if twice:
        raise ConfigError(
            f'modalities: {folder / files[twice[0]]} has the name of the modality {twice[0]!r} '
            f'that {folder} was prepared with, accepted are other names'
        )
    if choice is None:
        own, later = None, files
    else:
        own = {name: None for name, file in choice.items() if file is None and name in prepared}
        later = {}
        for name, file in choice.items():
            if name not in own:
                later[name] = _file(folder, name, file, files, prepared)
    data = read_prepared(folder, own, manifest)
    paths = {name: folder / file for name, file in later.items()}
    for name, path in paths.items():
        found = item_features(name, path)
        left_out = add_features(data, name, found)
        if left_out == len(found.ids):
            raise DataError(
                f'{path}: has rows of other items only, accepted are rows of those of {folder}, '
                f'such as {_example(data)!r}'
            )
        logger.info(
            '%s: modality %r for %d of %d items, added after the preparation%s',
            path,
            name,
            len(found.ids) - left_out,
            data[ITEM].num_nodes,
            f'; {left_out} rows of other items are left out' if left_out else '',
        )
    if paths:
        check_features(data, paths, check, names=paths)
    return data


def _file(
    folder: Path, name: str, asked: str | None, files: Mapping[str, str], prepared: list[str]
) -> str:
    if name in prepared or (asked is None and name not in files):
        raise ConfigError(
            f'modalities: got {name if asked is None else f"{name}={asked}"!r}, accepted are those '
            f'that {folder} was prepared with ({", ".join(prepared) or "none"}), feature files in '
            f'it ({", ".join(files) or "none"}) and NAME=FILE'
        )
    return files[name] if asked is None else asked


def _example(data: HeteroData) -> object:
    raw = data[ITEM].raw_id
    return raw[0] if isinstance(raw, list) else int(raw[0])
