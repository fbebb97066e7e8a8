r"""Ids of users and items as their owner knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData


def raw_ids(data: HeteroData, node_type: str) -> Sequence[Any]:
    r"""Returns the ids used in the dataset: ``raw_id`` where the graph has them, else the node
    numbers.
    """
    ids = data[node_type].get('raw_id')
    if ids is None:
        return range(int(data[node_type].num_nodes))
    # tensors, arrays and columns of data frames
    ids = ids.tolist() if hasattr(ids, 'tolist') else ids
    # what JSON and Parquet take
    return [raw.item() if isinstance(raw, (Tensor, np.generic)) else raw for raw in ids]
