r"""Base class of file-based datasets: location of files, validity and storage of the processed
graph.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.datasets.io.regular import file_sha256, list_folder
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, check_graph
from genrec_pyg.utils.description import describe
from genrec_pyg.utils.files import replacing

logger = logging.getLogger(__name__)

#: Part of the key of processed files; a change of what is stored changes it.
_FORMAT = '3'
_MODALITY = re.compile(r'[A-Za-z0-9_-]+')
#: Bytes in the name of a file or folder.
_LONGEST_NAME = 255
_SUFFIXES = ('_feat.npy', '.npy', '_feat.npy.zip', '.npy.zip')

#: Modality names, or a mapping from modality to the file that holds it (:obj:`None` for the file of
#: the modality's name).
Modalities = Iterable[str] | Mapping[str, str | None] | None


class LayoutDataset(InMemoryDataset):
    r"""A folder ``root/name`` of files in a known layout, as one canonical graph.

    Raw files may lie in ``root/name`` itself or in ``root/name/raw``. The processed graph lies in
    ``root/name/processed`` or, where that cannot be written, in the user's cache folder. Its name
    contains digests of the choice of modalities and of the content of the raw files, so a stale
    graph is never read; storing one removes those of the same choice and other content. A damaged
    one is made again. Where none can be stored, or ``pre_transform`` does not say what it does (a
    function, or a transform with arguments and without a ``repr`` of its own, see
    :func:`~genrec_pyg.utils.description.describe`), the graph lives in memory alone.

    Args:
        root: Folder of the datasets.
        name: Name of the dataset.
        modalities: Modalities to read; :obj:`None` reads all that are there.
        transform: Transform at access.
        pre_transform: Transform before the graph is stored.
        force_reload: Whether to process again.
    """

    pattern: str  # files that tell the layout

    def __init__(
        self,
        root: str | Path,
        name: str,
        modalities: Modalities = None,
        transform: Callable | None = None,
        pre_transform: Callable | None = None,
        force_reload: bool = False,
    ):
        check_name(name, root)
        self.name = name
        self.folder = Path(root) / name
        named = [modalities] if isinstance(modalities, str) else modalities
        self.choice = named if named is None or isinstance(named, Mapping) else dict.fromkeys(named)
        self._graph: HeteroData | None = None
        super().__init__(str(self.folder), transform, pre_transform, force_reload=force_reload)
        self.data, self.slices = self.collate([self._graph])
        self._graph = None

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        r"""Whether ``folder`` holds files of this layout."""
        return bool(list_folder(folder, cls.pattern) or list_folder(folder / 'raw', cls.pattern))

    def feature_files(self) -> dict[str, Path]:
        r"""Modality to its feature file, for the chosen modalities."""
        return {
            name: Path(self.raw_dir) / file
            for name, file in self.choose(self.feature_names()).items()
        }

    def load_features(self) -> dict[str, np.ndarray]:
        r"""Features ``[I, d_m]`` of the chosen modalities."""
        return {name: load_features(file) for name, file in self.feature_files().items()}

    def feature_names(self) -> list[str]:
        r"""Names of all feature files in the folder, whatever the choice."""
        return [name for name in list_folder(Path(self.raw_dir)) if name.endswith(_SUFFIXES)]

    def default_features(self, files: Iterable[str]) -> list[str]:
        r"""Those of the feature files that are read where no choice is made."""
        return [
            file
            for file in files
            if feature_key(file) != file.removesuffix('.zip').removesuffix('.npy')
        ]

    def read(self) -> HeteroData:
        r"""Reads and checks the raw files."""
        raise TypeError(f'{type(self).__name__} does not implement read()')

    @property
    def raw_dir(self) -> str:
        nested = self.folder / 'raw'
        return str(
            nested
            if os.path.isdir(nested) and not list_folder(self.folder, self.pattern)
            else self.folder
        )

    @property
    def processed_dir(self) -> str:
        return str(self._storage() or self.folder / 'processed')

    def _storage(self) -> Path | None:
        r"""The folder of processed graphs, or :obj:`None` where none can be kept."""
        beside = self.folder / 'processed'
        if describe(self.pre_transform) is None:
            return None
        if _is_writable(self.folder) and (not os.path.exists(beside) or _is_writable(beside)):
            return beside
        cache = _cache_folder()
        return (
            cache
            and cache
            / f'{self.name}-{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:12]}'
        )

    @property
    def processed_file_names(self) -> list[str]:
        features = self.feature_files()
        raw = [Path(self.raw_dir) / name for name in self.raw_file_names]
        choice = [_FORMAT, type(self).__name__, *(path.name for path in raw)]
        choice += [f'{name}={path.name}' for name, path in features.items()]
        content = [file_sha256(path) for path in [*raw, *features.values()]]
        return [
            f'graph-{_digest(*choice, str(describe(self.pre_transform)))}-{_digest(*content)}.pt'
        ]

    def _download(self) -> None:
        # The base class makes the folder first, with an error of its own where it may not.
        if not all(os.path.exists(path) for path in self.raw_paths):
            self.download()

    def _process(self) -> None:
        # In place of the base class, which unpickles a file of the folder freely
        # (weights_only=False).
        for other in list_folder(Path(self.raw_dir), '*_feat.*') if self.choice is None else ():
            if not other.endswith(_SUFFIXES):
                logger.warning(
                    '%s: %s is not read, accepted are features in .npy or .npy.zip',
                    self.folder,
                    other,
                )
        path = Path(self.processed_paths[0])
        if (
            os.path.isfile(path)
            and not self.force_reload
            and describe(self.pre_transform) is not None
        ):
            try:
                self._graph = HeteroData.from_dict(torch.load(path, weights_only=True))
                check_graph(self._graph)
                return
            except Exception as error:  # whatever a damaged file leads the reader into
                logger.warning(
                    '%s: processed graph cannot be read (%s), it is made again', path, error
                )
        self._make(path)

    def process(self) -> None:
        r"""Reads the raw files and stores the graph, whole or not at all."""
        self._make(Path(self.processed_paths[0]))

    def _make(self, path: Path) -> None:
        # The path was made before reading: a file that changes meanwhile changes the digest.
        data = self.read()
        self._graph = data if self.pre_transform is None else self.pre_transform(data)
        if self._storage() is None:
            logger.info('%s: the processed graph is not stored and lives in memory', self.folder)
            return
        # never written through a planted link
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            logger.warning('%s: is no plain file, the processed graph is not stored', path)
            return
        try:
            with replacing(path) as temporary:
                torch.save(_plain(self._graph.to_dict()), temporary)
            for stale in path.parent.glob(f'{path.name.rpartition("-")[0]}-*.pt'):
                if stale != path:
                    stale.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            logger.warning(
                '%s: processed graph cannot be stored (%s), it will be made again next time',
                path,
                error,
            )

    def choose(self, *files: Sequence[str]) -> dict[str, str]:
        r"""Finds the file of each chosen modality.

        Args:
            *files: Names of feature files; the first sequence with a match counts.

        Raises:
            ConfigError: If a modality has no file or several, or cannot name a node type.
        """
        if self.choice is None:
            found = {feature_key(file): file for file in _unpacked(self.default_features(files[0]))}
        else:
            found = {
                name: self._find(name, str(file or name), files)
                for name, file in self.choice.items()
            }
        for name in found:
            if name in (USER, ITEM) or not _MODALITY.fullmatch(name):
                raise ConfigError(
                    f'modalities: {name!r} cannot name a modality, accepted are letters, '
                    f"digits, '_' and '-', not {USER!r} or {ITEM!r}; give the file another name "
                    f'with NAME=FILE'
                )
        return found

    def _find(self, name: str, asked: str, files: Sequence[Sequence[str]]) -> str:
        matches = next(
            (found for found in (matching_files(asked, some) for some in files) if found), []
        )
        if not matches:
            there = dict.fromkeys(feature_key(file) for some in files for file in some)
            raise ConfigError(
                f'modalities: {self.folder} has no features for {asked!r}, accepted are '
                f'{", ".join(there) or "none"}'
            )
        if len(matches) > 1:
            raise ConfigError(
                f'modalities: {self.folder} has {len(matches)} files for {asked!r} '
                f'({", ".join(matches)}), accepted is one; say which with {name}={matches[0]}'
            )
        return matches[0]


def check_name(name: str, root: str | Path) -> None:
    r"""Checks that ``name`` names a folder directly under ``root`` and nothing else.

    Raises:
        ConfigError: If it is empty, has a separator or a zero byte, is ``.`` or ``..``, or is
            longer than file systems take.
    """
    if (
        not name
        or name in ('.', '..')
        or Path(name).name != name
        or '\0' in name
        or len(os.fsencode(name)) > _LONGEST_NAME
    ):
        raise ConfigError(
            f'dataset: got {name[:_LONGEST_NAME]!r}, accepted is the name of a folder under {root}'
        )


def matching_files(asked: str, files: Sequence[str]) -> list[str]:
    r"""The feature files that ``asked`` may mean: the one of exactly that name, else those of the
    modality ``asked``.
    """
    if asked in files:
        return [asked]
    return _unpacked(
        [file for file in files if file in {f'{asked}{suffix}' for suffix in _SUFFIXES}]
    )


def feature_key(file: str) -> str:
    r"""The modality that a feature file holds by its name: that without ``.zip``, ``.npy`` and
    ``_feat``.
    """
    return file.removesuffix('.zip').removesuffix('.npy').removesuffix('.npz').removesuffix('_feat')


def _unpacked(files: Sequence[str]) -> list[str]:
    r"""The same files without archives of which the unpacked file is there too."""
    return [
        file
        for file in files
        if file.removesuffix('.zip') not in files or not file.endswith('.zip')
    ]


def parse_modalities(names: Iterable[str] | None) -> dict[str, str | None] | None:
    r"""Modalities as the command line gives them: ``image`` or ``text=all-MiniLM-L6-v2`` (modality
    = feature file).

    Raises:
        ConfigError: If an entry is empty or a modality is named twice.
    """
    if names is None:
        return None
    found: dict[str, str | None] = {}
    for entry in [names] if isinstance(names, str) else names:
        name, separator, file = entry.partition('=')
        if not name or (separator and not file) or name in found:
            raise ConfigError(
                f'modalities: got {entry!r}, accepted are NAME and NAME=FILE, each name once'
            )
        found[name] = file or None
    return found


def _cache_folder() -> Path | None:
    r"""The user's cache folder, where the system keeps such, or :obj:`None` for a user without a
    home, as containers have.
    """
    try:
        folder = platformdirs.user_cache_path('genrec_pyg', appauthor=False)
    except RuntimeError:
        return None
    # versions of old leave the mark of a home that there is not
    return None if str(folder).startswith('~') else folder


def _digest(*parts: str) -> str:
    r"""Short digest of texts, told apart by where they end."""
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    r"""Whether files may be made in ``folder``. A folder without any write bit is left alone by the
    superuser too.
    """
    return os.access(folder, os.W_OK) and bool(
        folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    )


def _plain(value: Any) -> Any:
    r"""Plain dictionaries, which ``weights_only`` admits, in place of PyG's storages."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
