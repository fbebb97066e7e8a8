"""Lists of items for tests of metrics."""

import torch

from genrec_pyg.evaluation.lists import Lists
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.graph.modality import Modality

LABEL = torch.empty(2, 0, dtype=torch.long)


def make(item, edges=((0,), (0,)), num_users=None, num_items=5, **features):
    item = torch.tensor(item)
    modalities = {name: Modality(name, torch.tensor(x), num_items) for name, x in features.items()}
    graph = TrainingGraph(num_users or item.size(0), num_items, torch.tensor(edges), modalities)
    return Lists(torch.arange(item.size(0)), item, item.size(1), graph)
