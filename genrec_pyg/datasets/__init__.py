r"""Datasets as canonical graphs."""
from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional, Union

from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities, check_name, parse_modalities
from genrec_pyg.datasets.demo import Demo, demo_graph
from genrec_pyg.datasets.diffmm import BY_HAND, DOWNLOADABLE, DiffMMDataset
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.mmrec import MMRecDataset
from genrec_pyg.datasets.recbole import RecBoleDataset
from genrec_pyg.datasets.user_item_text import UserItemTextDataset
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, modality_names, select_modalities

logger = logging.getLogger(__name__)


def load_dataset(name: str, root: Union[str, Path, None] = None, modalities: Union[Iterable[str], Modalities] = None,
                 mirror: Optional[str] = None) -> HeteroData:
    r"""The canonical graph of a dataset.

    ``'demo'`` is generated, with a warning where a folder of that name holds files. Any other name is a folder under ``root``,
    whose layout is recognized from its content; where there is no such folder, ``tiktok`` and ``baby`` are downloaded into it.

    Args:
        name: Name of the dataset.
        root: Folder of the datasets, by default the environment variable ``GENREC_DATA``, else ``data``.
        modalities: Names, ``NAME=FILE`` entries or a mapping; :obj:`None` takes all.
        mirror: See :class:`DiffMMDataset`.

    Raises:
        ConfigError: If there is no such dataset or modality.
        DataError: If files are missing or damaged.
    """
    choice = modalities if modalities is None or isinstance(modalities, Mapping) else parse_modalities(modalities)
    root = Path(root if root is not None else os.environ.get('GENREC_DATA', 'data'))
    check_name(name, root)
    if name == 'demo':
        if _recognize(root / name) is not None:
            logger.warning('%s is not read: the dataset demo is the generated one; give the folder another name', root / name)
        return _keep(Demo()[0], choice)
    folder = root / name
    layout = _recognize(folder)
    if layout not in (None, DiffMMDataset):
        return layout(str(root), name, choice)[0]
    if layout is DiffMMDataset or name in DOWNLOADABLE or name in BY_HAND:
        return DiffMMDataset(str(root), name, choice, mirror)[0]
    here = [entry for entry in list_folder(root) if os.path.isdir(root / entry)]
    patterns = f'{MMRecDataset.pattern}, no {DiffMMDataset.pattern} and no single {UserItemTextDataset.pattern}'
    there = ', '.join(list_folder(folder)[:5]) or 'nothing'
    found = f'{folder} has no {patterns} (found {there})' if os.path.isdir(folder) else f'there is no folder {folder}'
    raise ConfigError(f"dataset: got {name!r}, but {found}; accepted are demo, {', '.join([*DOWNLOADABLE, *BY_HAND])} and the "
                      f"folders under {root} ({', '.join(here) or 'none'})")


def _recognize(folder: Path) -> Optional[type[LayoutDataset]]:
    r"""The layout of the files in ``folder``, if they have one."""
    found = [layout for layout in (MMRecDataset, DiffMMDataset) if layout.recognizes(folder)]
    if MMRecDataset in found and RecBoleDataset.recognizes(folder):  # files of one name, told apart by their header
        found[found.index(MMRecDataset)] = RecBoleDataset
    if not found and UserItemTextDataset.recognizes(folder):  # any other layout may have texts beside it
        return UserItemTextDataset
    if len(found) > 1:
        logger.warning('%s has files of two layouts; %s are read and %s are not', folder, *(one.pattern for one in found))
    return found[0] if found else None


def _keep(data: HeteroData, choice: Optional[Mapping[str, Optional[str]]]) -> HeteroData:
    if choice is None:
        return data
    for name, file in choice.items():
        if file is not None:
            raise ConfigError(f"modalities: got '{name}={file}', but the dataset is generated and has no files; accepted are "
                              f"{', '.join(modality_names(data))}")
    chosen = select_modalities(data, list(choice))
    for name in modality_names(data):
        if name not in chosen:
            del data[ITEM, 'has', name]
            del data[name]
    return data


__all__ = ['Demo', 'DiffMMDataset', 'MMRecDataset', 'RecBoleDataset', 'UserItemTextDataset', 'demo_graph', 'load_dataset',
           'parse_modalities']
