r"""A package outside genrec_pyg that adds a model, a metric and a layout by entry points."""

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from genrec_pyg.datasets.base import LayoutDataset
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.evaluation.lists import Lists
from genrec_pyg.nn.models.pairwise import PairwiseRecommender


class SharedTaste(PairwiseRecommender):
    r"""Matrix factorization whose user rows lean to the mean of all users.

    Args:
        data: Graph.
        modalities: Unused.
        hidden_channels: Width of the rows.
        share: Weight of the mean, from 0 to 1.
    """

    def __init__(self, data, modalities=None, hidden_channels: int = 32, share: float = 0.2):
        super().__init__(data, modalities, hidden_channels, 1e-4, 'xavier', 'batch')
        self.share = share

    def embed(self) -> tuple[Tensor, Tensor]:
        user, item = self.embedding.user, self.embedding.item
        return (1 - self.share) * user + self.share * user.mean(dim=0), item


def first_hit(lists: Lists, label: Tensor) -> Tensor:
    r"""1 for every user whose first item is held out, else 0."""
    row, item = label
    hit = lists.item.new_zeros(lists.user.numel())
    hit[row[lists.item[row, 0] == item]] = 1
    return hit


class Orders(LayoutDataset):
    r"""A folder with ``orders.jsonl``: ``{"who": ..., "what": ...}`` per line, oldest first."""

    pattern = 'orders.jsonl'
    raw_file_names = ['orders.jsonl']

    def read(self):
        path = Path(self.raw_paths[0])
        lines = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
        (users, user), (items, item) = (
            np.unique([str(line[key]) for line in lines], return_inverse=True)
            for key in ('who', 'what')
        )
        data = build_graph(
            user, item, None, len(users), len(items), {}, str(path), {'time': np.arange(len(user))}
        )
        data['user'].raw_id, data['item'].raw_id = users.tolist(), items.tolist()
        return data
