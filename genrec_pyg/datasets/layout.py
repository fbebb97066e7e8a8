r"""What the file-based data sets share: where files lie, when the processed graph is valid, and how it is kept."""
from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from genrec_pyg.exceptions import ConfigError

logger = logging.getLogger(__name__)

#: Part of the key of processed files; a change of what is stored changes it.
_FORMAT = '1'

#: Modality names, or a mapping from modality to the file that holds it (:obj:`None` for the file of the modality's name).
Modalities = Union[None, Iterable[str], Mapping[str, Optional[str]]]


class LayoutDataset(InMemoryDataset):
    r"""A folder ``root/name`` of files in a known layout, as one canonical graph.

    Raw files may lie in ``root/name`` itself or in ``root/name/raw``. The processed graph lies in ``root/name/processed`` or,
    where that cannot be written, in the user's cache folder. Its name contains a digest of the raw files' names, sizes and
    times and of the choice of modalities, so a stale graph is never read; a damaged one is made again.

    Args:
        root: Folder of the data sets.
        name: Name of the data set.
        modalities: Modalities to read; :obj:`None` reads all that are there.
        transform: Transform at access.
        pre_transform: Transform before the graph is stored.
        force_reload: Whether to process again.
    """

    def __init__(self, root: Union[str, Path], name: str, modalities: Modalities = None, transform: Optional[Callable] = None,
                 pre_transform: Optional[Callable] = None, force_reload: bool = False):
        self.name = name
        self.folder = Path(root) / name
        self.choice = modalities if modalities is None or isinstance(modalities, Mapping) else dict.fromkeys(modalities)
        super().__init__(str(self.folder), transform, pre_transform, log=False, force_reload=force_reload)
        path = Path(self.processed_paths[0])
        try:
            data = HeteroData.from_dict(torch.load(path, weights_only=True))
        except Exception as error:  # whatever a damaged file leads the reader into
            logger.warning('%s: processed graph cannot be read (%s), it is made again', path, error)
            self.process()
            data = HeteroData.from_dict(torch.load(path, weights_only=True))
        self.data, self.slices = self.collate([data])

    def feature_files(self) -> dict[str, Path]:
        r"""Modality to its feature file, for the chosen modalities."""
        raise TypeError(f'{type(self).__name__} does not implement feature_files()')

    def read(self) -> HeteroData:
        r"""Reads and checks the raw files."""
        raise TypeError(f'{type(self).__name__} does not implement read()')

    @property
    def raw_dir(self) -> str:
        nested = self.folder / 'raw'
        return str(nested if nested.is_dir() else self.folder)

    @property
    def processed_dir(self) -> str:
        beside = self.folder / 'processed'
        if os.access(beside if beside.exists() else self.folder, os.W_OK):
            return str(beside)
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'genrec_pyg'
        return str(cache / f'{self.name}-{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:12]}')

    @property
    def processed_file_names(self) -> list[str]:
        digest = hashlib.sha256(_FORMAT.encode())
        for path in sorted({Path(self.raw_dir) / name for name in self.raw_file_names} | set(self.feature_files().values())):
            status = path.stat()
            digest.update(f'{path.name} {status.st_size} {status.st_mtime_ns}\n'.encode())
        digest.update(repr((list(self.feature_files()), self.pre_transform)).encode())
        return [f'graph-{digest.hexdigest()[:16]}.pt']

    def process(self) -> None:
        r"""Reads the raw files and stores the graph, whole or not at all."""
        data = self.read()
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        path = Path(self.processed_paths[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix='.graph-')
        try:
            with os.fdopen(descriptor, 'wb') as file:
                torch.save(_plain(data.to_dict()), file)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def choose(self, available: Mapping[str, Path]) -> dict[str, Path]:
        r"""The chosen ones of the available modalities.

        Raises:
            ConfigError: If one is not there.
        """
        if self.choice is None:
            return dict(available)
        found = {}
        for name, file in self.choice.items():
            key = name if file is None else Path(file).name.removesuffix('.npy').removesuffix('_feat')
            if key not in available:
                raise ConfigError(f'modalities: {self.folder} has no features for {file or name!r}, accepted are '
                                  f"{', '.join(available) or 'none'}")
            found[name] = available[key]
        return found


def parse_modalities(names: Optional[Iterable[str]]) -> Optional[dict[str, Optional[str]]]:
    r"""Modalities as the command line gives them: ``image`` or ``text=all-MiniLM-L6-v2`` (modality = feature file).

    Raises:
        ConfigError: If an entry is empty or a modality is named twice.
    """
    if names is None:
        return None
    found: dict[str, Optional[str]] = {}
    for entry in names:
        name, separator, file = entry.partition('=')
        if not name or (separator and not file) or name in found:
            raise ConfigError(f'modalities: got {entry!r}, accepted are NAME and NAME=FILE, each name once')
        found[name] = file or None
    return found


def _plain(value: Any) -> Any:
    r"""Plain dictionaries, which ``weights_only`` admits, in place of PyG's storages."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
