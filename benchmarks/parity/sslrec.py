r"""HCCF, LightGCN, SGL and NCL against the SSLRec toolbox."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from scipy.sparse import coo_matrix
from torch.nn import Module

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    Tables,
    copy_weights,
    fixed_dropout,
    foreign_code,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import HCCF, NCL, SGL, LightGCN
from genrec_pyg.nn.models.pairwise import PairwiseRecommender

REPOSITORY = 'HKUDS/SSLRec (Apache-2.0)'

CHANNELS, LAYERS, L2 = 8, 2, 0.01
MEAN = 'theirs is the sum of the layers, divided by their number here'


def _counterpart(
    checkout: Path, ours: PairwiseRecommender, settings: Mapping[str, object]
) -> tuple[Module, Tables]:
    r"""Their model of the same name on the same graph, and the tables of both, with equal
    values.
    """
    name = type(ours).__name__
    require_files(
        checkout,
        f'models/general_cf/{name.lower()}.py',
        'models/base_model.py',
        'models/loss_utils.py',
        'data_utils/data_handler_general_cf.py',
    )
    # Their configuration comes from a command line and a file as soon as this module is imported.
    sys.modules['config.configurator'] = SimpleNamespace(
        configs={
            'data': {'user_num': ours.num_users, 'item_num': ours.num_items},
            'device': 'cpu',
            'model': {
                'embedding_size': CHANNELS,
                'layer_num': LAYERS,
                'reg_weight': L2,
                'keep_rate': 1.0,
                **settings,
            },
        }
    )
    kind = importlib.import_module('data_utils.data_handler_general_cf').DataHandlerGeneralCF
    handler = kind.__new__(kind)  # without reading files
    handler.torch_adj = handler._make_torch_adj(
        coo_matrix(
            (torch.ones(ours.graph.num_edges).numpy(), tuple(ours.graph.edge_index.numpy())),
            shape=(ours.num_users, ours.num_items),
        )
    )
    theirs = getattr(importlib.import_module(f'models.general_cf.{name.lower()}'), name)(handler)
    tables = {
        'user table': (theirs.user_embeds, ours.embedding.user),
        'item table': (theirs.item_embeds, ours.embedding.item),
    }
    if isinstance(ours, HCCF):
        tables.update(
            {
                f'hyperedges of {side}s': (
                    getattr(theirs, f'{side}_hyper_embeds'),
                    getattr(ours, f'{side}_hyper').weight,
                )
                for side in ('user', 'item')
            }
        )
    randomize(theirs.parameters())
    copy_weights(tables)
    return theirs, tables


def compare_light_gcn(checkout: Path) -> list[Agreement]:
    r"""Embeddings and the loss with gradients."""
    with foreign_code(checkout):
        ours = LightGCN(
            toy_graph(),
            hidden_channels=CHANNELS,
            num_layers=LAYERS,
            l2=L2,
            penalty_rows='table',
            layer_weights=[1] * (LAYERS + 1),
        )
        theirs, tables = _counterpart(checkout, ours, {})
        batch = toy_batch(ours.graph)
        note = 'theirs sums the layers, and ours does so by its layer weights; no entry dropped'
        return [
            *pair_agreements(theirs.forward(theirs.adj, 1.0), ours.embed(), note),
            *loss_agreements(
                theirs.cal_loss(batch)[0], sum(ours.loss(batch).values()), tables, note
            ),
        ]


def compare_sgl(checkout: Path) -> list[Agreement]:
    r"""Embeddings and, on the same augmented graphs, the contrast with gradients."""
    weight = 0.5
    with foreign_code(checkout):
        torch.manual_seed(0)
        ours = SGL(
            toy_graph(), hidden_channels=CHANNELS, num_layers=LAYERS, l2=L2, contrast_weight=weight
        )
        theirs, tables = _counterpart(
            checkout,
            ours,
            {'augmentation': 'edge_drop', 'cl_weight': weight, 'temperature': ours.temperature},
        )
        batch = toy_batch(ours.graph)
        ours.draw_views()
        graphs = [
            torch.sparse_coo_tensor(*view[0].to_edge_index(), view[0].size)
            for view in ours.view_graphs.values()
        ]
        # of the embeddings, both views, and the ranking
        remaining = iter([theirs.adj, *graphs, theirs.adj])
        with patch.object(theirs.edge_dropper, 'forward', lambda *_: next(remaining)):
            embeddings = [x / (LAYERS + 1) for x in theirs.forward(theirs.adj, 1.0)]
            _, losses = theirs.cal_loss(batch)
        terms, negatives = ours.loss(batch), ours.loss(Triples(batch.user, batch.neg, batch.pos))
        own = terms['contrast_users'] + terms['contrast_items'] + negatives['contrast_items']
        return [
            *pair_agreements(embeddings, ours.embed(), MEAN),
            *loss_agreements(
                losses['cl_loss'],
                own,
                tables,
                'theirs contrasts negative items too, and so does this sum of ours; graphs given',
                'contrast',
            ),
        ]


def compare_ncl(checkout: Path) -> list[Agreement]:
    r"""Embeddings and, of given clusters, the contrasts with gradients."""
    weights = {'contrast_weight': 0.5, 'prototype_weight': 0.4, 'temperature': 0.2}
    with foreign_code(checkout):
        ours = NCL(toy_graph(), hidden_channels=CHANNELS, num_layers=LAYERS, l2=L2, **weights)
        num_clusters = ours.user_centroids.size(0)
        theirs, tables = _counterpart(
            checkout,
            ours,
            {
                'proto_weight': ours.prototype_weight,
                'struct_weight': ours.contrast_weight,
                'temperature': ours.temperature,
                'high_order': ours.hops,
                'cluster_num': num_clusters,
            },
        )
        randomize((ours.user_centroids, ours.item_centroids), seed=1)
        for name in ('user', 'item'):
            label = getattr(ours, f'{name}_label')
            label.copy_(torch.arange(label.numel()) % num_clusters)
            setattr(theirs, f'{name}_centroids', getattr(ours, f'{name}_centroids'))
            setattr(theirs, f'{name}2cluster', label)
        ours.uses_prototypes = True
        batch = toy_batch(ours.graph)
        embeddings = theirs.forward(theirs.adj)[0] / (LAYERS + 1)
        found = pair_agreements(
            embeddings.split([ours.num_users, ours.num_items]), ours.embed(), MEAN
        )
        for name, own, note in (
            ('struct_loss', 'contrast_structure', 'item weight 1, which theirs has not'),
            ('proto_loss', 'contrast_prototypes', 'clusters given'),
        ):
            _, losses = theirs.cal_loss((*batch, torch.zeros(1)))
            found += loss_agreements(
                losses[name], ours.loss(batch)[own], tables, note, own.replace('_', ' with ')
            )
        return found


def compare_hccf(checkout: Path) -> list[Agreement]:
    r"""Embeddings and the loss with gradients, with the dropout of memberships."""
    slope, keep, mult = 0.5, 0.5, 0.3
    with foreign_code(checkout), fixed_dropout():
        ours = HCCF(
            toy_graph(),
            hidden_channels=CHANNELS,
            num_layers=LAYERS,
            num_hyperedges=6,
            l2=L2,
            edge_dropout=1 - keep,
            slope=slope,
            contrast_weight=0.4,
            temperature=0.3,
            bank='all',
            membership_scale=mult,
        ).train()
        theirs, tables = _counterpart(
            checkout,
            ours,
            {
                'cl_weight': ours.contrast_weight,
                'hyper_num': 6,
                'mult': mult,
                'keep_rate': keep,
                'temperature': ours.temperature,
                'leaky': slope,
            },
        )
        batch = toy_batch(ours.graph)
        note = (
            'memberships dropped alike; no interaction dropped, of which theirs drops the two '
            'directions apart'
        )
        with (
            patch.object(theirs.edge_drop, 'forward', lambda graph, _: graph),
            patch.object(ours.interactions, 'scaled_drop', lambda _: ours.interactions.adjacency),
        ):
            embeddings = theirs.forward(theirs.adj, keep)[0].split([ours.num_users, ours.num_items])
            loss, losses = theirs.cal_loss(batch)
            terms = ours.loss(batch)
            return [
                *pair_agreements(embeddings, ours.embed(), note),
                Agreement(
                    'BPR',
                    losses['bpr_loss'].detach(),
                    terms['bpr'].detach(),
                    'no pair far from being ranked right, where the logarithm of theirs underflows',
                ),
                Agreement('L2', losses['reg_loss'].detach(), terms['l2'].detach()),
                Agreement('contrast', losses['cl_loss'].detach(), terms['contrast'].detach()),
                *loss_agreements(loss, sum(terms.values()), tables, note),
            ]


MODELS = {
    'LightGCN': compare_light_gcn,
    'SGL': compare_sgl,
    'NCL': compare_ncl,
    'HCCF': compare_hccf,
}
