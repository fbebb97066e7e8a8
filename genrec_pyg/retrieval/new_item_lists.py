r"""Lists of items that came after the training, by their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import scipy.sparse as sp
import torch
from torch import Tensor

from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.datasets.io.values import order_ids
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval.index import Search
from genrec_pyg.retrieval.new_items import new_item_embedding


def read_new_items(files: Mapping[str, str]) -> tuple[Sequence[Any], dict[str, Tensor]]:
    r"""Ids of new items, in their order, and their features ``[n, d_m]`` by modality; a row of NaN
    is an item without.

    Args:
        files: Modality to a file, see :func:`~genrec_pyg.datasets.io.item_features.read_features`.

    Raises:
        ConfigError: If a column is not there.
        DataError: If a file cannot be read.
    """
    read = {name: read_features(file, name) for name, file in files.items()}
    texts = sorted({str(raw) for found in read.values() for raw in found.ids})
    ids, _ = order_ids(pa.array(texts, pa.string()))
    ids = ids if isinstance(ids, list) else ids.tolist()
    place = {str(raw): number for number, raw in enumerate(ids)}
    features = {}
    for name, found in read.items():
        # new items x d_m, the width of the model's own features: a few rows of a file
        x = found.x.toarray() if sp.issparse(found.x) else found.x
        features[name] = torch.full((len(ids), x.shape[1]), torch.nan)
        features[name][[place[str(raw)] for raw in found.ids]] = torch.from_numpy(x)
    return ids, features


@torch.no_grad()
def new_item_search(
    model: Recommender, features: Mapping[str, Tensor], histories: Adjacency | None = None
) -> Search:
    r"""Search among new items, whose embeddings follow from their features
    (:func:`~genrec_pyg.retrieval.new_items.new_item_embedding`). Call it within
    :meth:`~genrec_pyg.nn.models.Recommender.cached_embeddings`.

    Args:
        model: Trained model, in evaluation mode.
        features: Raw features ``[n, d_m]`` by modality.
        histories: Items of new users ``[B, I]``, who are asked for by their row; :obj:`None` asks
            for users of the graph.

    Raises:
        ConfigError: If the model has no item embeddings or no modality, or no embeddings for
            histories.
    """
    device = model.graph.edge_index.device
    embed = new_item_embedding(model)
    new = embed({name: x.to(device) for name, x in features.items()})
    users, items = model.embeddings()
    by_list = None
    if histories is not None:
        if users.dim() != 2 or model.reads_history:
            raise ConfigError(
                f'history: {type(model).__name__} has no single embedding per user, which lists '
                f'of new items for new users need; accepted are models that have'
            )
        size = (model.num_users, model.num_items)
        by_list = HistoryEmbedding(
            users, items, Adjacency.from_edge_index(model.graph.edge_index, size=size)
        )

    def search(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        query = users[user]
        if by_list is not None:
            rows = Adjacency(*histories.select_rows(user), None, (user.numel(), model.num_items))
            query = model.history_embeddings(by_list(rows), rows)
        scores = query @ new.t()
        if scores.dim() == 3:  # the best of several interests
            scores = scores.amax(dim=1)
        return scores.topk(min(k, scores.size(1)), dim=1)

    return search
