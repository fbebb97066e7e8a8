r"""Canonical graphs in one file, for runs that were made in Python."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, MASKS, USER, check_graph, modality_names, raw_ids
from genrec_pyg.graph.containers import as_dense, read_edge_index
from genrec_pyg.utils.files import write_atomically

logger = logging.getLogger(__name__)

#: Name of the graph in the folder of a run that was made in Python.
GRAPH_FILE = 'graph.pt'
#: What is kept of users, items and interactions besides edges and masks.
_NODE_KEYS = ('title', 'image')
_EDGE_KEYS = ('time', 'rating')


def save_graph(data: HeteroData, path: str | Path) -> None:
    r"""Saves what a canonical graph holds for models and people: interactions with their masks,
    times and ratings, ids and titles, features and links of modalities. ``--dataset FILE.pt`` takes
    the file.

    Args:
        data: Canonical graph with splits.
        path: File, replaced atomically.

    Raises:
        DataError: If the graph is not canonical.
        OutputError: If the system refuses.
    """
    check_graph(data, finite=False)
    out = HeteroData()
    for node_type in (USER, ITEM):
        out[node_type].num_nodes = int(data[node_type].num_nodes)
        if data[node_type].get('raw_id') is not None:
            out[node_type].raw_id = list(raw_ids(data, node_type))
        for key in _NODE_KEYS:
            if data[node_type].get(key) is not None:
                out[node_type][key] = _content(data[node_type][key])
    store = data[INTERACTS]
    for key in (*(f'{name}_mask' for name in MASKS), *_EDGE_KEYS):
        if store.get(key) is not None:
            out[INTERACTS][key] = as_dense(store[key])
    if store.get('ordered') is not None:
        out[INTERACTS].ordered = bool(store.ordered)
    out[INTERACTS].edge_index = read_edge_index(store)
    for name in modality_names(data):
        out[name].x = as_dense(data[name].x).detach()
        out[ITEM, HAS, name].edge_index = read_edge_index(data[ITEM, HAS, name])
    state = {key: _compact(value) for key, value in out.to_dict().items()}
    write_atomically(path, lambda file: torch.save(state, file))


def load_graph(path: str | Path) -> HeteroData:
    r"""Loads a graph that :func:`save_graph` wrote; no code in the file is run.

    Raises:
        DataError: If it is no such file, or the graph in it is not canonical.
    """
    try:
        data = HeteroData.from_dict(torch.load(path, weights_only=True, map_location='cpu'))
    except Exception as error:  # whatever a damaged file leads the reader into
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f'{path}: not a saved graph ({reason})') from error
    check_graph(data)
    return data


def _content(values: Any) -> Any:
    r"""Titles or places of pictures as texts, pictures themselves as a tensor."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in 'biuf':
        return torch.from_numpy(values)
    return ['' if value is None else str(value) for value in values]


def _compact(value: Any) -> Any:
    r"""Tensors on the CPU without the rest of the storage that they are a view of."""
    if isinstance(value, dict):
        return {key: _compact(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value
