r"""A model of the MMRec toolbox and ours on the same graph and features.

Theirs are built from their classes, on an object with the few methods that they ask of a loader,
and features in files.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from benchmarks.parity.comparison import (
    Agreement,
    Tables,
    copy_weights,
    foreign_code,
    loss_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.models import MODELS as OURS
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency

#: Files of the two modalities that it knows.
FILES = {'image': 'image_feat.npy', 'text': 'text_feat.npy'}
WIDTH = 8

#: Differences that several models share.
LOGARITHM = 'theirs has 1e-10 in the logarithm, silent at gaps above -10'
FROBENIUS = 'penalty off: theirs is the unsquared norm of the rows of the batch'


class Settings(dict):
    r"""Settings of a model; what is not named is :obj:`None`, as in the toolbox."""

    def __missing__(self, name: str) -> None:
        return None


class Interactions:
    r"""What the models ask of a loader: sizes and the matrix of training interactions, in the order
    of our graph.

    Args:
        graph: Training graph.
    """

    def __init__(self, graph: TrainingGraph):
        self._graph, self.dataset = graph, self

    def get_user_num(self) -> int:
        r"""Number of users."""
        return self._graph.num_users

    def get_item_num(self) -> int:
        r"""Number of items."""
        return self._graph.num_items

    def inter_matrix(self, form: str = 'coo') -> Any:
        r"""Sparse matrix ``[U, I]`` of ones."""
        size = self._graph.num_users, self._graph.num_items
        return coo_matrix(
            (np.ones(self._graph.num_edges), tuple(self._graph.edge_index.numpy())), size
        ).asformat(form)


class Pair:
    r"""Their model and ours on one graph.

    Args:
        theirs: Their model.
        ours: Ours, in training mode.
        graph: Training graph.
    """

    def __init__(self, theirs: Any, ours: Recommender, graph: TrainingGraph):
        self.theirs, self.ours, self.batch = theirs, ours.train(), toy_batch(graph)

    def start(self, tables: Tables) -> None:
        r"""Gives both sides the same random weights."""
        randomize(theirs for theirs, _ in tables.values())
        copy_weights(tables)

    def losses(
        self,
        tables: Tables,
        note: str = '',
        name: str = 'loss',
        factor: float = 1.0,
        constant: float = 0.0,
        negatives: bool = True,
    ) -> list[Agreement]:
        r"""Agreement of the sums of all terms; theirs is multiplied by ``factor``, and ``constant``
        added.
        """
        rows = torch.stack(self.batch if negatives else self.batch[:2])
        theirs = factor * self.theirs.calculate_loss(rows) + constant
        return loss_agreements(theirs, sum(self.ours.loss(self.batch).values()), tables, note, name)

    def scores(self, note: str = '') -> Agreement:
        r"""Agreement of the scores of all items for all users, in evaluation mode."""
        user = torch.arange(self.ours.num_users)
        self.theirs.eval()  # as ours within its context: no dropout, the whole graph
        with torch.no_grad(), self.ours.cached_embeddings():
            return Agreement(
                'scores', self.theirs.full_sort_predict([user]), self.ours.score(user), note
            )


@contextmanager
def pair(
    checkout: Path,
    module: str,
    name: str,
    settings: dict[str, Any],
    model: str,
    hyper: dict[str, Any],
    modalities: tuple[str, ...] = (),
    files: dict[str, Any] | None = None,
    shift: float = 0.0,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Pair]:
    r"""Builds class ``name`` of their ``module`` with ``settings`` beside our ``model`` with
    arguments ``hyper``; theirs also finds the arrays ``files``, and gets ``arguments`` after the
    loader. ``shift`` is added to all features.
    """
    data = toy_graph(FILES)
    for modality in FILES:
        data[modality].x += shift
    graph = training_graph(data, modalities)
    with foreign_code(checkout / 'src'), tempfile.TemporaryDirectory() as folder:
        for modality, file in FILES.items():
            np.save(Path(folder) / file, data[modality].x.numpy())
        for file, content in (files or {}).items():
            np.save(Path(folder) / file, content)
        # A module of theirs looks for the folder `common` inside `models`, where it is not, and
        # cannot be imported otherwise.
        for part in ('common', 'common.abstract_recommender', 'common.loss'):
            sys.modules[f'models.{part}'] = importlib.import_module(part)
        config = Settings(
            {
                'embedding_size': WIDTH,
                'feat_embed_dim': WIDTH,
                'device': torch.device('cpu'),
                'end2end': False,
                'is_multimodal_model': bool(modalities),
                'data_path': f'{folder}/',
                'dataset': '',
                'vision_feature_file': FILES['image'],
                'text_feature_file': FILES['text'],
                'USER_ID_FIELD': 'user',
                'ITEM_ID_FIELD': 'item',
                'NEG_PREFIX': 'neg_',
                **settings,
            }
        )
        theirs = getattr(importlib.import_module(f'models.{module}'), name)(
            config, Interactions(graph), *arguments
        )
        width = {'hidden_channels': WIDTH} if OURS[model].trained else {}
        yield Pair(theirs, get_model(model)(graph, **{**width, **hyper}), graph)


def table_halves(table: Tensor, ours: Any) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Tables of users and of items of one that holds both."""
    user, item = table.split([ours.num_users, ours.num_items])
    return {'user table': (user, ours.embedding.user), 'item table': (item, ours.embedding.item)}


def as_lists(graph: Adjacency, length: int) -> tuple[Tensor, Tensor]:
    r"""Neighbors ``[U, length]`` of a graph and their weights, short lists filled by user 0 with
    weight 0.
    """
    (row, col), value = graph.to_edge_index()
    place = torch.arange(graph.nnz) - graph.rowptr[row]
    neighbors = torch.zeros(graph.size[0], length, dtype=torch.long)
    weights = torch.zeros(graph.size[0], length)
    neighbors[row, place], weights[row, place] = col, value
    return neighbors, weights


def dense_graph(graph: Adjacency) -> Tensor:
    r"""The matrix of a toy graph, which their program holds dense."""
    edge_index, value = graph.to_edge_index()
    return torch.sparse_coo_tensor(edge_index, value, graph.size, is_coalesced=False).to_dense()


def prune_equally(theirs: Any, ours: Recommender) -> None:
    r"""Gives both sides the same half of the interactions; theirs draws their places, ours a
    mask.
    """

    def draw(rate: Tensor, num_kept: int) -> Tensor:
        return torch.arange(rate.numel())[-num_kept:]

    with patch.object(torch, 'multinomial', draw):
        theirs.pre_epoch_processing()
    num_edges = ours.graph.num_edges
    mask = torch.zeros(num_edges, dtype=torch.bool)
    mask[draw(mask, int(num_edges * (1 - ours.interactions.edge_dropout)))] = True
    ours.interactions.pruned = ours.interactions.subgraph(mask)
    if hasattr(theirs, 'masked_adj'):
        theirs.forward_adj = theirs.masked_adj
