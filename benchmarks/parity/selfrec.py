r"""MFBPR, LightGCN, SGL and NCL against the SELFRec toolbox, which numbers users and items as they
first appear.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import Module

from benchmarks.common.foreign import require_files, stand_in
from benchmarks.parity.comparison import (
    Agreement,
    foreign_code,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import MFBPR, NCL, SGL, LightGCN
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.ops import Adjacency

REPOSITORY = 'Coder-Yu/SELFRec (no license)'

CHANNELS, LAYERS, L2 = 8, 3, 0.1
#: What every recommender of theirs reads of its configuration.
CONFIG: dict[str, Any] = {
    'item.ranking.topN': [10],
    'embedding.size': CHANNELS,
    'max.epoch': 1,
    'learning.rate': 0.001,
    'reg.lambda': L2,
    'output': '.',
}


class Pair:
    r"""A recommender of theirs and ours with the same tables.

    Args:
        module: Their module.
        ours: Our model.
        settings: Settings of their model.
        batch_size: Triples of a batch.
    """

    def __init__(
        self,
        module: ModuleType,
        ours: PairwiseRecommender,
        settings: Mapping[str, object],
        batch_size: int,
    ):
        name = module.__name__.rpartition('.')[2]
        edges = [(*edge, 1) for edge in ours.graph.edge_index.t().tolist()]
        self.theirs = getattr(module, name)(
            {**CONFIG, 'model': {'name': name}, 'batch.size': batch_size, name: settings}, edges, []
        )
        self.ours, self.loss = ours, importlib.import_module('util.loss_torch')
        data = self.theirs.data
        self.user = torch.tensor([data.user[user] for user in range(ours.num_users)])
        self.item = torch.tensor([data.item[item] for item in range(ours.num_items)])
        randomize(ours.embedding.parameters())
        with torch.no_grad():
            self.tables['user_emb'][self.user] = ours.embedding.user
            self.tables['item_emb'][self.item] = ours.embedding.item

    @property
    def model(self) -> Module:
        r"""Their module with parameters."""
        return self.theirs.model

    @property
    def tables(self) -> Mapping[str, Tensor]:
        r"""Their tables."""
        return self.model.embedding_dict

    def batch(self, batch: Triples) -> tuple[list[int], list[int], list[int]]:
        r"""The batch in their numbers."""
        return tuple(
            index.tolist()
            for index in (self.user[batch.user], self.item[batch.pos], self.item[batch.neg])
        )

    def graph(self, graph: Adjacency) -> Tensor:
        r"""A graph of ours in their numbers."""
        (row, col), value = graph.to_edge_index()
        node = torch.cat([self.user, self.ours.num_users + self.item])
        return torch.sparse_coo_tensor(torch.stack([node[row], node[col]]), value, graph.size)

    def compare_embeddings(self) -> list[Agreement]:
        r"""Of the final embeddings."""
        with torch.no_grad():
            users, items = self.model()[:2]
            return pair_agreements((users[self.user], items[self.item]), self.ours.embed())

    def compare_bpr(self, batch: Triples) -> list[Agreement]:
        r"""Of BPR with its gradients."""
        user, positive, negative = self.batch(batch)
        users, items = self.model()[:2]
        plain = torch.log
        with patch('torch.log', lambda x: plain(x - 1e-5)):
            theirs = self.loss.bpr_loss(users[user], items[positive], items[negative])
        return self.compare_loss(
            theirs,
            self.ours.loss(batch)['bpr'],
            'BPR',
            'theirs adds 1e-5 within the logarithm, taken out here',
        )

    def compare_penalty(self, batch: Triples) -> list[Agreement]:
        r"""Of the penalty on initial rows."""
        user, positive, negative = self.batch(batch)
        rows = (
            self.tables['user_emb'][user],
            self.tables['item_emb'][positive],
            self.tables['item_emb'][negative],
        )
        size = batch.user.numel()
        theirs = (
            L2 * sum((size * self.loss.l2_reg_loss(1.0, x)).square() for x in rows) / (2 * size)
        )
        return [
            Agreement(
                'L2',
                theirs.detach(),
                self.ours.loss(batch)['l2'].detach(),
                'theirs is not squared and divided by the batch once more; squared and '
                'divided once here',
            )
        ]

    def compare_loss(
        self, theirs: Tensor, ours: Tensor, name: str, note: str = ''
    ) -> list[Agreement]:
        r"""Of a loss and its gradients, those of theirs in our numbers."""
        tables = {
            'user table': (self.tables['user_emb'], self.ours.embedding.user),
            'item table': (self.tables['item_emb'], self.ours.embedding.item),
        }
        found = loss_agreements(theirs, ours, tables, note, name)
        return [
            found[0],
            *(
                agreement._replace(theirs=agreement.theirs[order])
                for agreement, order in zip(found[1:], (self.user, self.item))
            ),
        ]


def _module(checkout: Path, name: str) -> ModuleType:
    require_files(
        checkout, f'model/graph/{name}.py', 'util/loss_torch.py', 'base/graph_recommender.py'
    )
    stand_in('numba', jit=lambda **_: lambda function: function)  # of the ranking alone
    stand_in('faiss')  # of the clustering, whose result is given
    return importlib.import_module(f'model.graph.{name}')


def compare_mf_bpr(checkout: Path) -> list[Agreement]:
    r"""Embeddings, BPR with gradients and the penalty."""
    with foreign_code(checkout):
        ours = MFBPR(toy_graph(), hidden_channels=CHANNELS, l2=L2)
        batch = toy_batch(ours.graph)
        pair = Pair(_module(checkout, 'MF'), ours, {}, batch.user.numel())
        return [*pair.compare_embeddings(), *pair.compare_bpr(batch), *pair.compare_penalty(batch)]


def compare_light_gcn(checkout: Path) -> list[Agreement]:
    r"""As of MFBPR."""
    with foreign_code(checkout):
        ours = LightGCN(toy_graph(), hidden_channels=CHANNELS, num_layers=LAYERS, l2=L2)
        batch = toy_batch(ours.graph)
        pair = Pair(_module(checkout, 'LightGCN'), ours, {'n_layer': LAYERS}, batch.user.numel())
        return [*pair.compare_embeddings(), *pair.compare_bpr(batch), *pair.compare_penalty(batch)]


def compare_sgl(checkout: Path) -> list[Agreement]:
    r"""Embeddings, BPR and, on the same augmented graphs, the contrasts; theirs penalizes
    propagated rows.
    """
    temperature, weight = 0.2, 0.5
    with foreign_code(checkout):
        torch.manual_seed(0)
        ours = SGL(
            toy_graph(),
            hidden_channels=CHANNELS,
            num_layers=LAYERS,
            l2=L2,
            contrast_weight=weight,
            temperature=temperature,
        )
        batch = toy_batch(ours.graph)
        settings = {
            'lambda': weight,
            'aug_type': 1,
            'drop_rate': ours.view_dropout,
            'n_layer': LAYERS,
            'temp': temperature,
        }
        pair = Pair(_module(checkout, 'SGL'), ours, settings, batch.user.numel())
        ours.draw_views()
        graphs = [pair.graph(view[0]) for view in ours.view_graphs.values()]
        users, items = torch.arange(ours.num_users), torch.arange(ours.num_items)
        found = [*pair.compare_embeddings(), *pair.compare_bpr(batch)]
        for name, index, nodes in (
            ('users', users, [pair.user.tolist(), []]),
            ('items', items, [[], pair.item.tolist()]),
        ):
            theirs = pair.theirs.cl_rate * pair.model.cal_cl_loss(nodes, *graphs)
            own = ours.loss(
                Triples(index % ours.num_users, index % ours.num_items, index % ours.num_items)
            )
            found += pair.compare_loss(
                theirs,
                own[f'contrast_{name}'],
                f'contrast of {name}',
                f'all {name} once, for theirs contrasts within the batch, users and items together',
            )
        return found


def compare_ncl(checkout: Path) -> list[Agreement]:
    r"""Embeddings, BPR and, of given clusters, the contrasts; theirs penalizes propagated rows."""
    weights = {
        'contrast_weight': 0.5,
        'prototype_weight': 0.4,
        'item_weight': 1.5,
        'temperature': 0.2,
    }
    with foreign_code(checkout):
        ours = NCL(toy_graph(), hidden_channels=CHANNELS, num_layers=LAYERS, l2=L2, **weights)
        batch = toy_batch(ours.graph)
        size, num_clusters = batch.user.numel(), ours.user_centroids.size(0)
        settings = {
            'n_layer': LAYERS,
            'tau': ours.temperature,
            'ssl_reg': ours.contrast_weight / size,
            'hyper_layers': 1,
            'alpha': ours.item_weight,
            'proto_reg': ours.prototype_weight / num_clusters,
            'num_clusters': num_clusters,
        }
        pair = Pair(_module(checkout, 'NCL'), ours, settings, num_clusters)
        randomize((ours.user_centroids, ours.item_centroids), seed=1)
        for name, order in (('user', pair.user), ('item', pair.item)):
            label, centroids = getattr(ours, f'{name}_label'), getattr(ours, f'{name}_centroids')
            label.copy_(torch.arange(label.numel()) % num_clusters)
            setattr(pair.theirs, f'{name}_centroids', centroids)
            setattr(
                pair.theirs, f'{name}_2cluster', torch.empty_like(label).index_copy(0, order, label)
            )
        layers, (user, positive, _) = pair.model()[2], pair.batch(batch)
        found = [*pair.compare_embeddings(), *pair.compare_bpr(batch)]
        found += pair.compare_loss(
            pair.theirs.ssl_layer_loss(layers[2], layers[0], user, positive),
            ours.loss(batch)['contrast_structure'],
            'contrast with the neighborhood',
            'theirs sums over the batch',
        )
        ours.uses_prototypes = True
        once = Triples(*torch.arange(num_clusters).expand(3, -1))
        user, positive, _ = pair.batch(once)
        found += pair.compare_loss(
            pair.theirs.ProtoNCE_loss(layers[0], user, positive),
            ours.loss(once)['contrast_prototypes'],
            'contrast with the prototypes',
            'a node of every cluster, for theirs contrasts with the centroids of the batch',
        )
        return found


MODELS = {
    'MFBPR': compare_mf_bpr,
    'LightGCN': compare_light_gcn,
    'SGL': compare_sgl,
    'NCL': compare_ncl,
}
