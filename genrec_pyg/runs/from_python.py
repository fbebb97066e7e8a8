r"""The folder of a training that was started in Python, as every command takes it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.saved import GRAPH_FILE, save_graph
from genrec_pyg.graph import modality_names
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.registry import model_name
from genrec_pyg.utils.files import write_atomically

logger = logging.getLogger(__name__)


def write_run(
    folder: Path, model: Recommender, data: HeteroData, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    r"""Writes ``graph.pt`` and ``config.yaml``, from which the model can be built again.

    A model with an argument that is no plain value, or of a class that cannot be imported by name,
    is trained all the same; the log says that commands will not take the run.

    Args:
        folder: Folder of the run.
        model: Model to be trained.
        data: Canonical graph.
        settings: Those of the trainer: ``epochs``, ``seed``, ``protocol``, ``mirror_gradient`` and
            ``trainer``, the others by name.

    Returns:
        The configuration, or :obj:`None` where there is none.

    Raises:
        OutputError: If a file cannot be written.
    """
    hidden = sorted(name for name, value in model.arguments.items() if not is_plain(value))
    place = model_name(type(model))
    if hidden or '<locals>' in place or place.startswith('__main__:'):
        what = (
            f'its argument {hidden[0]!r} is no plain value'
            if hidden
            else (f'{place} cannot be imported from elsewhere; define it in a module of its own')
        )
        logger.warning('%s: no config.yaml, so commands do not take the run (%s)', folder, what)
        return None
    names = list(model.graph.modalities)
    config = {
        'dataset': GRAPH_FILE,
        'root': str(folder.absolute()),
        'modalities': None if names == modality_names(data) else names,
        'model': place,
        **settings,
        'hparams': {name: _plain(value) for name, value in model.arguments.items()},
    }
    save_graph(data, folder / GRAPH_FILE)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_atomically(folder / 'config.yaml', lambda file: file.write(text.encode()))
    return config


def is_plain(value: Any) -> bool:
    r"""Whether a value can stand in a YAML file: numbers, texts, and lists, mappings and data
    classes of them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return is_plain(dataclasses.asdict(value))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(entry) for key, entry in value.items())
    return value is None or isinstance(value, (bool, int, float, str, np.number, np.bool_))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.item() if isinstance(value, np.generic) else value
