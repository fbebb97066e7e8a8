r"""What the comparisons with DiffMM and GenRec-V1 share, whose programs have one frame: flags read
once into ``args``, a ``Coach`` that trains, and a handler of the data.

Their training functions run one epoch on one batch with a learning rate of zero, so that they
report their losses and leave gradients and graphs behind.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import Agreement
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.ops import Adjacency


class OneBatch:
    r"""A loader, and at once its dataset, of one fixed batch.

    Args:
        batch: The batch, with drawn negatives where it has any.
        size: Length of the dataset; their batch size makes it one step.
    """

    def __init__(self, batch: tuple[Tensor, ...], size: int):
        self.batch, self.size = tuple(batch), size

    @property
    def dataset(self) -> OneBatch:
        r"""The loader itself."""
        return self

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        yield self.batch

    def __len__(self) -> int:
        return self.size

    def negSampling(self) -> None:
        r"""Their name of drawing negatives, which the batch has already."""


def import_main(checkout: Path) -> ModuleType:
    r"""Their program without flags.

    Raises:
        FileNotFoundError: If the folder is no checkout of it.
    """
    require_files(checkout, 'Main.py', 'Model.py', 'DataHandler.py', 'Params.py')
    # Only their constructor, which is passed over, writes figures.
    sys.modules['torch.utils.tensorboard'] = SimpleNamespace(SummaryWriter=None)
    with patch.object(sys, 'argv', ['Main.py']):
        return importlib.import_module('Main')


def set_flags(
    main: ModuleType, graph: TrainingGraph, batch: Triples, values: Mapping[str, object]
) -> None:
    r"""Sets their flags: sizes of the graph and the batch, no learning, no edge dropout, and
    ``values``.
    """
    sizes = {f'{name}_feat_dim': modality.x.size(1) for name, modality in graph.modalities.items()}
    for name, value in {
        'user': graph.num_users,
        'item': graph.num_items,
        'batch': batch.user.numel(),
        'lr': 0.0,
        'keepRate': 1.0,
        **sizes,
        **values,
    }.items():
        setattr(main.args, name, value)


def make_handler(main: ModuleType, graph: TrainingGraph, batch: Triples) -> Any:
    r"""Their handler of the data with our graph in place of files, and loaders of one batch."""
    handler = main.DataHandler.__new__(main.DataHandler)
    edges = graph.edge_index.numpy()
    handler.trnMat = coo_matrix(
        (torch.ones(graph.num_edges).numpy(), tuple(edges)),
        shape=(graph.num_users, graph.num_items),
    )
    for name, modality in graph.modalities.items():
        setattr(handler, f'{name}_feats', modality.x)
    handler.trnLoader = OneBatch(batch, batch.user.numel())
    rows = torch.tensor(handler.trnMat.toarray())
    handler.diffusionLoader = OneBatch((rows, torch.arange(graph.num_users)), batch.user.numel())
    return handler


def reported_losses(reported: Mapping[str, float], terms: Mapping[str, Tensor]) -> list[Agreement]:
    r"""The losses that their training function reports beside ours; all of ours but BPR and L2
    belong to the contrast.
    """
    bpr = reported['BPR Loss']
    contrast = sum(term for name, term in terms.items() if name not in ('bpr', 'l2'))
    return [
        Agreement(name, torch.tensor(theirs), ours.detach())
        for name, theirs, ours in (
            ('BPR', bpr, terms['bpr']),
            ('L2', reported['Loss'] - bpr, terms['l2']),
            ('contrast', reported['CL loss'], contrast),
        )
    ]


def dense(adjacency: Adjacency) -> Tensor:
    r"""The adjacency as a matrix."""
    edge_index, value = adjacency.to_edge_index()
    return torch.zeros(adjacency.size).index_put(tuple(edge_index), value)
