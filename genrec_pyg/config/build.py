r"""Construction of models, and loading of finished runs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch_geometric.data import HeteroData

from genrec_pyg.config import RunConfig, find_root, parse_columns, read_yaml, resolve_config
from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.prepare import DEFAULT_SPLIT, make_split
from genrec_pyg.datasets.saved import GRAPH_FILE
from genrec_pyg.exceptions import CheckpointError, ConfigError
from genrec_pyg.graph import (
    HAS,
    ITEM,
    held_out_digests,
    modality_names,
    read_mask,
    training_graph,
    unread_was_said,
)
from genrec_pyg.nn.models import Recommender, get_model
from genrec_pyg.nn.models.blend import Blend, check_weights
from genrec_pyg.runs.checkpoint import check_identity, load_checkpoint, warn_of_held_out
from genrec_pyg.runs.folder import MEMBERS
from genrec_pyg.training import Distributed, Trainer
from genrec_pyg.training.device import resolve_device
from genrec_pyg.training.session import NOT_CHOSEN, SELECTION
from genrec_pyg.utils.command_line import path_argument, run_command  # noqa: F401 (where programs import them from)

logger = logging.getLogger(__name__)


class Run(NamedTuple):
    r"""A finished run.

    Args:
        config: Its configuration.
        data: Its graph.
        model: Its model in the best state, in evaluation mode.
        selection: How its epoch was chosen, such as ``'chosen on validation'``.
    """

    config: RunConfig
    data: HeteroData
    model: Recommender
    selection: str


def make_data(config: RunConfig) -> HeteroData:
    r"""The graph that a configuration names, filtered and split as it says; where it says nothing
    and the dataset has no split of its own, as :data:`~genrec_pyg.datasets.prepare.DEFAULT_SPLIT`.

    Raises:
        ConfigError: If there is no such dataset, modality or split.
        DataError: If files are damaged, or the data cannot be split so.
    """
    data = load_dataset(
        config.dataset,
        config.root,
        config.modalities,
        columns=parse_columns(config.columns),
        on_bad_row=config.on_bad_row,
        min_rating=config.min_rating,
        k_core=config.k_core,
        split=config.split,
        check=config.check_features,
    )
    if read_mask(data, 'train') is not None:
        return data
    logger.info('%s: split as %s, since it brings none (--split)', config.dataset, DEFAULT_SPLIT)
    return make_split(DEFAULT_SPLIT)(data)


def make_model(config: RunConfig, data: HeteroData) -> Recommender:
    r"""The model that a configuration names, untrained."""
    return get_model(config.model)(data, **config.hparams)


def make_trainer(config: RunConfig, distributed: Distributed | None = None) -> Trainer:
    r"""The trainer of a configuration, still without a folder."""
    return Trainer(
        epochs=config.epochs,
        seed=config.seed,
        device=config.device,
        protocol=config.protocol,
        mirror_gradient=config.mirror_gradient,
        progress=sys.stderr.isatty(),
        distributed=distributed,
        **config.trainer,
    )


def load_run(folder: str, root: str | None = None, device: str = 'auto') -> Run:
    r"""Loads configuration, data and best model of a run folder.

    Args:
        folder: Folder that ``python -m genrec_pyg.train`` or ``python -m genrec_pyg.blend`` wrote.
        root: Folder of the datasets; :obj:`None` takes that of the training and then
            ``$GENREC_DATA``.
        device: Device of the model.

    Raises:
        ConfigError: If the folder is no run.
        CheckpointError: If the checkpoint is damaged or of another run, or interactions, features
            or links of the training have changed. Changed held-out interactions are named in a
            warning.
    """
    path = Path(folder)
    if not (path / 'config.yaml').is_file():
        raise ConfigError(
            f'{folder}: holds no config.yaml, accepted is a folder written by python -m '
            f'genrec_pyg.train'
        )
    content = read_yaml(path / 'config.yaml')
    if content.get('model') == Blend.__name__:
        return _load_blend(path, content, root, device)
    config = resolve_config(file=path / 'config.yaml')
    if root is None or config.dataset == GRAPH_FILE:
        config.root = find_root(config.dataset, config.root if root is None else root, path)
    else:
        config.root = root
    checkpoint = path / 'checkpoints' / 'best.pt'
    state = load_checkpoint(checkpoint)
    # compared with those of the training below
    data = make_data(replace(config, check_features='off'))
    if config.modalities is None and state.get('modalities') is not None:
        _leave_out(data, set(modality_names(data)) - set(state['modalities']), path)
    with unread_was_said():
        model = make_model(config, data)
    check_identity(
        state,
        checkpoint,
        type(model).__name__,
        model.graph.fingerprint(),
        _run_of(path / 'metrics.json'),
    )
    warn_of_held_out(state, checkpoint, held_out_digests(data))
    selected_by = state.get('protocol') or (state.get('config') or {}).get('protocol')
    # its figures would be given as what they are not
    if selected_by not in (None, config.protocol):
        raise CheckpointError(
            f'{checkpoint}: its epoch was chosen under protocol {selected_by!r}, but config.yaml '
            f'says {config.protocol!r}'
        )
    try:
        model.load_state_dict(state['model'])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f'{checkpoint}: does not fit the model of config.yaml ({reason})'
        ) from error
    model.to(resolve_device(device)).eval()  # for use: no dropout, stored batch statistics
    return Run(config, data, model, state.get('selection') or SELECTION[config.protocol])


def _leave_out(data: HeteroData, names: Iterable[str], run: Path) -> None:
    r"""Leaves out modalities that were added to the files of a dataset since a run."""
    for name in sorted(names):
        logger.info('%s: modality %r was added after the training and is left out', run, name)
        del data[ITEM, HAS, name], data[name]


def fuse(runs: Mapping[str, Run], weights: Mapping[str, float], chosen: bool) -> Run:
    r"""The blend of finished runs by name.

    Args:
        runs: Runs of the same data and split.
        weights: Weight of every run.
        chosen: Whether the weights were chosen on validation.

    Raises:
        ConfigError: If a run is of other data, another split, or had its epoch chosen on test.
    """
    (name, first), *others = runs.items()
    expected = _data_of(first)
    for other, run in others:
        for part, value in _data_of(run).items():
            if value != expected[part]:
                raise ConfigError(
                    f'{other}: its {part} are not those of {name}; accepted are runs of the '
                    f'same data and split'
                )
    for other, run in runs.items():
        if run.config.protocol != 'validation':
            raise ConfigError(
                f'{other}: its epoch was chosen on test (protocol {run.config.protocol!r}), '
                f'accepted are '
                "runs of protocol 'validation'"
            )
    model = Blend(first.data, {name: run.model for name, run in runs.items()}, weights)
    config = replace(
        first.config,
        model=Blend.__name__,
        mirror_gradient=False,
        output=None,
        trainer={},
        hparams={},
    )
    selection = SELECTION['validation'] if chosen else NOT_CHOSEN[False]
    model.to(first.model.graph.edge_index.device).eval()  # for use, as in load_run
    return Run(config, first.data, model, selection)


def _data_of(run: Run) -> dict[str, Any]:
    r"""What runs must share to be blended: features may differ."""
    return {
        'training interactions': training_graph(run.data, []).fingerprint(),
        'held-out interactions': held_out_digests(run.data),
    }


def _load_blend(path: Path, content: Mapping[str, Any], root: str | None, device: str) -> Run:
    members, file = content.get('members'), path / 'config.yaml'
    if (
        not isinstance(members, dict)
        or not members
        or not all(
            isinstance(name, str) and name not in ('', '.', '..') and not set(name) & set('/\\\0')
            for name in members
        )
    ):
        raise ConfigError(
            f'{file}: members: got {members!r}, accepted are weights by the name of a folder in '
            f'{path / MEMBERS}'
        )
    try:
        check_weights(members)
    except ConfigError as error:
        raise ConfigError(f'{file}: {error}') from error
    runs = {name: load_run(str(path / MEMBERS / name), root, device) for name in members}
    return fuse(runs, members, content.get('chosen_on_validation') is True)


def _run_of(metrics: Path) -> str | None:
    r"""Identifier of the run that wrote ``metrics.json``, if it was finished."""
    try:
        return json.loads(metrics.read_text(encoding='utf-8')).get('run')
    except (OSError, ValueError, AttributeError):  # of a run that goes on, or edited by hand
        return None
