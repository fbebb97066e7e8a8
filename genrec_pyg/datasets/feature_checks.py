r"""Checks of features from files before a training uses them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from genrec_pyg.datasets.alignment import measure_alignment
from genrec_pyg.datasets.io.item_features import ids_path, read_id_list
from genrec_pyg.datasets.io.manifests import check_manifest
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import modality_names

logger = logging.getLogger(__name__)

#: What follows from features that do not belong to the items: an error, a warning, or no check at
#: all.
POLICIES = ('error', 'warn', 'off')
_OVERRIDE = 'accepted with --check_features warn'


def check_policy(policy: str) -> None:
    r"""Refuses an unknown policy.

    Raises:
        ConfigError: If it is none of :data:`POLICIES`.
    """
    if policy not in POLICIES:
        raise ConfigError(f'check_features: got {policy!r}, accepted are {", ".join(POLICIES)}')


def check_features(
    data: HeteroData,
    sources: Mapping[str, Any],
    policy: str,
    by_row: bool = False,
    names: Iterable[str] | None = None,
) -> None:
    r"""Compares feature files with their manifests, and features with what the same users have.

    Features whose rows are displaced are refused, see
    :func:`~genrec_pyg.datasets.alignment.measure_alignment`. Those that tell nothing of which items
    the same users have are named in a warning.

    Args:
        data: Canonical graph, rows of modalities in the order of their files.
        sources: Modality to its file; other sources have no manifest.
        policy: One of :data:`POLICIES`.
        by_row: Whether rows are items by their number, so that ids beside a file must be those
            numbers.
        names: Modalities whose rows are compared; :obj:`None` takes all.

    Raises:
        ConfigError: On another policy.
        DataError: Under 'error', if features are not those of the items.
    """
    check_policy(policy)
    if policy == 'off':
        return
    for source in sources.values():
        if isinstance(source, (str, Path)):
            path = Path(str(source).rpartition(':')[0] if '.parquet:' in str(source) else source)
            _apply(policy, lambda path=path: check_manifest(path))
            if by_row:
                _apply(policy, lambda path=path: _check_rows(path))
    check_alignment(data, modality_names(data) if names is None else names, policy)


def check_alignment(data: HeteroData, names: Iterable[str], policy: str = 'error') -> None:
    r"""Refuses or names modalities whose rows are displaced; see :func:`check_features`."""
    for name in names:
        found = measure_alignment(data, name)
        if found is not None and found.misplaced:
            message = (
                f'features of {name!r} are displaced by {found.peak} rows: items that the same '
                f'users have are most alike there (similarity above chance: {found.describe()}); '
                f'accepted are rows of the items, otherwise {_OVERRIDE}'
            )
            if policy == 'error':
                raise DataError(message)
            logger.warning('%s', message)
        elif found is not None and not found.found:
            logger.warning(
                'features of %r do not tell which items the same users have (similarity above '
                'chance by shift of rows: %s); if they should, their rows are not those of '
                'the items',
                name,
                found.describe(),
            )


def _apply(policy: str, check: Callable[[], Any]) -> None:
    try:
        check()
    except DataError as error:
        if policy == 'error':
            raise DataError(f'{error}, otherwise {_OVERRIDE}') from error
        logger.warning('%s', error)


def _check_rows(path: Path) -> None:
    r"""Refuses features that say that their rows are of other items than their numbers."""
    ids = ids_path(path)
    if not ids.is_file():
        return
    for number, line in enumerate(read_id_list(ids)):
        if line != str(number):
            raise DataError(
                f'{path}: row {number} is of item {line!r} by {ids.name}, and in this layout of '
                f'item {number}; accepted are rows of all items in order (--on_bad_item '
                'zero where one has no content)'
            )
