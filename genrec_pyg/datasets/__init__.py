r"""Datasets as canonical graphs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities, check_name, parse_modalities
from genrec_pyg.datasets.demo import Demo, demo_graph
from genrec_pyg.datasets.diffmm import BY_HAND, DOWNLOADABLE, DiffMMDataset
from genrec_pyg.datasets.feature_checks import check_features, check_policy
from genrec_pyg.datasets.hm import HMDataset
from genrec_pyg.datasets.io.logs import logs_of
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.rows import ON_BAD_ROW
from genrec_pyg.datasets.mind import MindDataset
from genrec_pyg.datasets.mmrec import MMRecDataset
from genrec_pyg.datasets.prepare import prepare, split_column
from genrec_pyg.datasets.prepared import is_prepared
from genrec_pyg.datasets.prepared_and_beside import read_prepared_and_beside
from genrec_pyg.datasets.recbole import RecBoleDataset
from genrec_pyg.datasets.saved import load_graph, save_graph
from genrec_pyg.datasets.sequences_with_content import SequenceContentDataset, SequenceDataset
from genrec_pyg.datasets.table import find_features, from_table
from genrec_pyg.datasets.user_item_text import UserItemTextDataset
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, modality_names, select_modalities
from genrec_pyg.utils.plugins import installed, load_place

logger = logging.getLogger(__name__)

#: Endings of logs, in lower case.
LOG_SUFFIXES = tuple(
    f'{kind}{packed}'
    for kind in ('.csv', '.tsv', '.jsonl', '.parquet')
    for packed in ('', '.gz', '.bz2', '.zst')
)
#: Bytes in a path that file systems take.
_LONGEST_PATH = 4095
#: Names of datasets that are downloaded from a mirror in their original layout.
RAW_DOWNLOADS: dict[str, type[SequenceDataset]] = {
    'hm': HMDataset,
    'MINDsmall': MindDataset,
    'MINDlarge': MindDataset,
}


def load_dataset(
    name: str,
    root: str | Path | None = None,
    modalities: Iterable[str] | Modalities = None,
    mirror: str | None = None,
    columns: Mapping[str, str] | None = None,
    min_rating: float | None = None,
    k_core: int = 0,
    split: str | None = None,
    check: str = 'error',
    on_bad_row: str = 'error',
) -> HeteroData:
    r"""The canonical graph of a dataset.

    ``'demo'`` is generated, with a warning where a folder of that name holds files. A name such as
    ``'shop/graph.pt'`` is a graph that :func:`save_graph` wrote, one such as ``'shop/log.csv'`` a
    table of interactions, see :func:`from_table`; so is a folder with one ``interactions.*``, and
    one of logs alone (:data:`LOG_SUFFIXES`) or a pattern (``'shop/day-*.csv'``), which are read as
    one. A folder that ``python -m
    genrec_pyg.prepare`` wrote is read as it was prepared, with the feature files that were added to
    it since. Any other name is a folder under ``root``, whose layout is recognized from its content
    (also one that an installed package adds as an entry point of the group
    ``genrec_pyg.datasets``); where there is no such folder, ``tiktok`` and ``baby`` are downloaded
    into it, and ``hm``, ``MINDsmall`` and ``MINDlarge`` from a mirror.

    Args:
        name: Name of the dataset.
        root: Folder of the datasets, by default the environment variable ``GENREC_DATA``, else
            ``data``.
        modalities: Names, ``NAME=FILE`` entries or a mapping; :obj:`None` takes all.
        mirror: See :class:`DiffMMDataset`.
        columns: Role to column of a table, see :func:`from_table`.
        min_rating: Least rating that counts as an interaction.
        k_core: Least number of distinct items per user and users per item.
        split: Split in place of that of the dataset, see :func:`from_table`.
        check: What follows from features that do not belong to the items, see :func:`from_table`.
        on_bad_row: What an unreadable row of a table or log does, see :func:`from_table`.

    Raises:
        ConfigError: If there is no such dataset or modality.
        DataError: If files are missing or damaged.
    """
    check_policy(check)
    if on_bad_row not in ON_BAD_ROW:
        raise ConfigError(f'on_bad_row: got {on_bad_row!r}, accepted are {", ".join(ON_BAD_ROW)}')
    choice = (
        modalities
        if modalities is None or isinstance(modalities, Mapping)
        else parse_modalities(modalities)
    )
    root = Path(root if root is not None else os.environ.get('GENREC_DATA', 'data'))
    if _is_path(name) and is_prepared(root / name):
        if columns or split_column(split) is not None:
            raise ConfigError(
                f'columns, split: got {columns}, {split!r} for {name!r}, which is prepared; '
                f'accepted are the flags of the preparation'
            )
        _refuse_skipping(on_bad_row, f'{name!r}, which is prepared')
        data = read_prepared_and_beside(root / name, choice, check)
        return prepare(data, min_rating, k_core, split)
    table = _table(name, root)
    logs = [] if table is not None else _loose_logs(name, root) or logs_of(name, root)
    if logs:
        logger.info('%s: %s are read as one log', name, ', '.join(path.name for path in logs))
        features = find_features(Path(os.path.commonpath([path.parent for path in logs])), choice)
        return from_table(
            logs, columns, features, min_rating, k_core, split, check, on_bad_row=on_bad_row
        )
    if table is not None and table.suffix == '.pt' and not columns and split_column(split) is None:
        _refuse_skipping(on_bad_row, f'{name!r}, a saved graph')
        return prepare(_keep(load_graph(table), choice), min_rating, k_core, split)
    if table is not None:
        features = find_features(table.parent, choice)
        return from_table(
            table, columns, features, min_rating, k_core, split, check, on_bad_row=on_bad_row
        )
    if columns or split_column(split) is not None:
        raise ConfigError(
            f'columns, split: got {columns}, {split!r} for {name!r}, whose layout names its '
            f'columns; accepted are tables such as NAME/FILE.csv'
        )
    _refuse_skipping(on_bad_row, f'{name!r}, whose layout is read strictly')
    dataset = _find_layout(name, root, choice, mirror)
    if isinstance(dataset, Demo):
        data = _keep(dataset[0], choice)
    else:
        data = dataset[0]
        check_features(data, dataset.feature_files(), check, by_row=True)
    return prepare(data, min_rating, k_core, split)


def _refuse_skipping(on_bad_row: str, what: str) -> None:
    if on_bad_row != 'error':
        raise ConfigError(
            f"on_bad_row: got {on_bad_row!r} for {what}; accepted is 'error', and 'skip' for "
            f'tables and logs'
        )


def _find_layout(
    name: str, root: Path, choice: Mapping[str, str | None] | None, mirror: str | None
) -> Demo | LayoutDataset:
    check_name(name, root)
    if name == 'demo':
        if _recognize(root / name) is not None:
            logger.warning(
                '%s is not read: the dataset demo is the generated one; give the folder '
                'another name',
                root / name,
            )
        return Demo()
    folder = root / name
    layout = _recognize(folder)
    if layout is None:
        layout = RAW_DOWNLOADS.get(name)
    if layout is not None and issubclass(layout, SequenceDataset):
        return layout(str(root), name, choice, mirror=mirror)
    if layout not in (None, DiffMMDataset):
        return layout(str(root), name, choice)
    if layout is DiffMMDataset or name in DOWNLOADABLE or name in BY_HAND:
        return DiffMMDataset(str(root), name, choice, mirror)
    here = [entry for entry in list_folder(root) if os.path.isdir(root / entry)]
    patterns = (
        f'{MMRecDataset.pattern}, no {DiffMMDataset.pattern}, no {SequenceContentDataset.pattern} '
        f'and no single {UserItemTextDataset.pattern}'
    )
    there = ', '.join(list_folder(folder)[:5]) or 'nothing'
    found = (
        f'{folder} has no {patterns} (found {there})'
        if os.path.isdir(folder)
        else f'there is no folder {folder}'
    )
    raise ConfigError(
        f'dataset: got {name!r}, but {found}; accepted are demo, '
        f'{", ".join([*DOWNLOADABLE, *BY_HAND])} and the '
        f'folders under {root} ({", ".join(here) or "none"})'
    )


def _table(name: str, root: Path) -> Path | None:
    r"""The table of interactions that ``name`` means, if it means one."""
    if not _is_path(name):
        return None
    path = root / name
    if Path(name).name != name or not os.path.isdir(path):
        return path if os.path.isfile(path) else None
    found = list_folder(path, 'interactions.*')
    return path / found[0] if len(found) == 1 else None


def _loose_logs(name: str, root: Path) -> list[Path]:
    r"""The logs in a folder of no other layout, if ``name`` means one."""
    if not _is_path(name) or Path(name).name != name or not os.path.isdir(root / name):
        return []
    if name in DOWNLOADABLE or name in BY_HAND or _recognize(root / name) is not None:
        return []
    return [
        root / name / file
        for file in list_folder(root / name)
        if file.lower().endswith(LOG_SUFFIXES) and os.path.isfile(root / name / file)
    ]


def _is_path(name: str) -> bool:
    return name not in ('', 'demo') and '\0' not in name and len(os.fsencode(name)) <= _LONGEST_PATH


def _recognize(folder: Path) -> type[LayoutDataset] | None:
    r"""The layout of the files in ``folder``, if they have one."""
    found = [
        layout
        for layout in (MMRecDataset, DiffMMDataset, *installed_layouts())
        if layout.recognizes(folder)
    ]
    # files of one name, told apart by their header
    if MMRecDataset in found and RecBoleDataset.recognizes(folder):
        found[found.index(MMRecDataset)] = RecBoleDataset
    for layout in (SequenceContentDataset, MindDataset, HMDataset):
        if not found and layout.recognizes(folder):
            return layout
    # any other layout may have texts beside it
    if not found and UserItemTextDataset.recognizes(folder):
        return UserItemTextDataset
    if len(found) > 1:
        logger.warning(
            '%s has files of several layouts; %s are read and %s are not',
            folder,
            found[0].pattern,
            ', '.join(one.pattern for one in found[1:]),
        )
    return found[0] if found else None


def installed_layouts() -> list[type[LayoutDataset]]:
    r"""Layouts of installed packages, the entry points of the group ``genrec_pyg.datasets``; what
    is none of its kind is named in the log and left out.
    """
    found = []
    for name, place in installed('genrec_pyg.datasets').items():
        try:
            layout = load_place('dataset', place, name)
        except ConfigError as error:
            logger.warning('%s; it is left out', error)
            continue
        if isinstance(layout, type) and issubclass(layout, LayoutDataset):
            found.append(layout)
        else:
            logger.warning(
                'dataset layout %s of an installed package is no LayoutDataset; it is left out',
                name,
            )
    return found


def _keep(data: HeteroData, choice: Mapping[str, str | None] | None) -> HeteroData:
    if choice is None:
        return data
    for name, file in choice.items():
        if file is not None:
            raise ConfigError(
                f"modalities: got '{name}={file}', but the dataset is generated and has no files; "
                f'accepted are '
                f'{", ".join(modality_names(data))}'
            )
    chosen = select_modalities(data, list(choice))
    for name in modality_names(data):
        if name not in chosen:
            del data[ITEM, 'has', name]
            del data[name]
    return data


__all__ = [
    'Demo',
    'DiffMMDataset',
    'HMDataset',
    'MMRecDataset',
    'MindDataset',
    'RecBoleDataset',
    'SequenceContentDataset',
    'UserItemTextDataset',
    'demo_graph',
    'from_table',
    'load_dataset',
    'load_graph',
    'parse_modalities',
    'save_graph',
]
