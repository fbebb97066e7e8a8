r"""Comparison with the models of the MMRec toolbox that learn or filter graphs of items and
users.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.foreign import stand_in
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    fixed_dropout,
    layer_tables,
    pair_agreements,
    randomize,
    toy_graph,
)
from benchmarks.parity.mmrec_pair import FILES, WIDTH, as_lists, dense_graph, pair, prune_equally
from genrec_pyg.graph import training_graph
from genrec_pyg.ops import Adjacency, cooccurrence_graph


def lattice(checkout: Path) -> list[Agreement]:
    r"""LATTICE."""
    with pair(
        checkout,
        'lattice',
        'LATTICE',
        {
            'weight_size': [WIDTH] * 2,
            'knn_k': 4,
            'lambda_coeff': 0.7,
            'cf_model': 'lightgcn',
            'n_layers': 1,
            'reg_weight': 0.0,
            'train_batch_size': 64,
        },
        'LATTICE',
        {'l2': 0.0, 'num_neighbors': 4, 'original_weight': 0.7},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
            'logits of modalities': (theirs.modal_weight, ours.modality_logits),
            **layer_tables(
                {
                    name: (layer, ours.projections[name].linear)
                    for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))
                }
            ),
        }
        both.start(tables)
        found = [both.scores()]
        both.theirs.train()
        theirs.pre_epoch_processing()
        return [
            *found,
            *both.losses(
                tables,
                'first batch of an epoch, the only one in which their projections learn; penalty '
                'off: theirs is of final rows',
            ),
        ]


def dragon(checkout: Path) -> list[Agreement]:
    r"""DRAGON."""
    settings = {
        'reg_weight': 0.1,
        'aggr_mode': 'add',
        'user_graph_dict_file': 'users.npy',
        'n_mm_layers': 1,
        'knn_k': 4,
        'mm_image_weight': 0.1,
        'embedding_size': 64,
        'feat_embed_dim': 64,
    }
    with pair(
        checkout,
        'dragon',
        'DRAGON',
        settings,
        'DRAGON',
        {
            'hidden_channels': 64,
            'l2': 0.1,
            'num_neighbors': 4,
            'num_co_users': 5,
            'modality_weights': {'image': 0.1, 'text': 0.9},
        },
        ('image', 'text'),
        {'users.npy': np.array({}, dtype=object)},
    ) as both:
        theirs, ours = both.theirs, both.ours
        sides, layers = {'image': theirs.v_gcn, 'text': theirs.t_gcn}, {}
        for name, side in sides.items():
            encoder = ours.streams.encoders[name]
            layers.update(
                {
                    f'{name} map 1': (side.MLP, encoder.first),
                    f'{name} map 2': (side.MLP_1, encoder.second),
                }
            )
        tables = {
            **{
                f'{name} preferences': (side.preference, ours.streams.preferences[name])
                for name, side in sides.items()
            },
            **layer_tables(layers),
        }
        both.start(tables)
        randomize([theirs.weight_u], seed=1)
        copy_weights({'weights of modalities': (theirs.weight_u[:, :, 0], ours.streams.weight)})
        del theirs.result_embed  # a parameter to which its forward pass assigns a tensor
        theirs.epoch_user_graph, theirs.user_weight_matrix = as_lists(ours.user_graph(), 5)
        found = both.losses(tables, 'same graph of users, for theirs pads short lists by chance')
        rows = theirs.result_embed.split([theirs.n_users, theirs.n_items])
        return [
            Agreement('item graph', theirs.mm_adj.to_dense(), dense_graph(ours.item_graph)),
            *pair_agreements(rows, ours.embed()),
            *found,
            both.scores(),
        ]


def mvgae(checkout: Path) -> list[Agreement]:
    r"""MVGAE."""
    with pair(
        checkout,
        'mvgae',
        'MVGAE',
        {'n_layers': 1, 'beta': 0.1, 'train_batch_size': 64},
        'MVGAE',
        {'squash': False},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        sides = {
            'image': (theirs.v_gcn, ours.experts['image']),
            'text': (theirs.t_gcn, ours.experts['text']),
            'free table': (theirs.c_gcn, ours.item_expert),
        }
        tables = {}
        for name, (side, expert) in sides.items():
            tables[f'{name} preferences'] = side.preference, expert.preference
            convs = {
                'layer': (side.conv_embed_1, side.g_layer1, expert.layers[0]),
                'mean': (side.conv_embed_4, side.g_layer4, expert.heads[0]),
                'variance': (side.conv_embed_5, side.g_layer5, expert.heads[1]),
            }
            for part, (conv, linear, our) in convs.items():
                tables[f'{name} {part} map'] = conv.weight, our.weight
                tables[f'{name} {part} map bias'] = conv.bias, our.bias
                tables.update(layer_tables({f'{name} {part}': (linear, our.linear)}))
            tables.update(
                layer_tables(
                    {
                        f'{name} input': (side.MLP, expert.input),
                        f'{name} mean skip': (side.linear_layer4, expert.skips[0]),
                        f'{name} variance skip': (side.linear_layer5, expert.skips[1]),
                    }
                )
            )
        both.start(tables)
        copy_weights({'free table': (theirs.collaborative, ours.item_table)})
        with torch.no_grad(), fixed_dropout():
            mean, log_variance, _, *parts = theirs()
            posteriors = both.ours.posteriors()
        note = (
            'same dropout; their loss is not compared: it reads items from rows of users and '
            'squashes scores twice'
        )
        found = []
        for name, theirs_mean, theirs_log, our in zip(
            ('image', 'text', 'free table', 'product'),
            [*parts[::2], mean],
            [*parts[1::2], log_variance],
            posteriors,
        ):
            found += [
                Agreement(f'{name} means', theirs_mean, our.mean, note),
                Agreement(f'{name} log variances', theirs_log, our.log_variance),
                Agreement(
                    f'{name} distance',
                    theirs.kl_loss(theirs_mean, theirs_log).detach(),
                    our.kl().mean(),
                ),
            ]
        return found


def lgmrec(checkout: Path) -> list[Agreement]:
    r"""LGMRec."""
    settings = {
        'cf_model': 'lightgcn',
        'n_mm_layers': 2,
        'n_ui_layers': 2,
        'n_hyper_layer': 2,
        'hyper_num': 4,
        'keep_rate': 1.0,
        'alpha': 0.3,
        'cl_weight': 0.01,
        'reg_weight': 0.1,
    }
    with pair(
        checkout,
        'lgmrec',
        'LGMRec',
        settings,
        'LGMRec',
        {'num_hyper_layers': 2, 'edge_dropout': 0.0, 'contrast_weight': 0.64, 'l2': 0.1},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
            'image projection': (theirs.item_image_trs, ours.projections['image']),
            'text projection': (theirs.item_text_trs, ours.projections['text']),
            'image hyperedges': (theirs.v_hyper, ours.hyperedges['image']),
            'text hyperedges': (theirs.t_hyper, ours.hyperedges['text']),
        }
        both.start(tables)

        def draw(x: Tensor) -> Tensor:
            return (7 * x.detach()).sin()

        def softmax(
            x: Tensor, tau: float = 1.0, dim: int = -1, noise: float = 0.0, **_: Any
        ) -> Tensor:
            return torch.softmax((x + noise * draw(x)) / tau, dim)

        with patch.object(torch.nn.functional, 'gumbel_softmax', softmax):
            scores = both.scores('without noise, which theirs has in evaluation too')
        both.theirs.train()
        with (
            patch.object(torch.nn.functional, 'gumbel_softmax', partial(softmax, noise=1.0)),
            patch.object(ours.hyper_conv, '_draw', draw),
        ):
            return [
                scores,
                *both.losses(
                    tables, 'same noise, no dropout; their contrast is a sum over the batch'
                ),
            ]


def damrs(checkout: Path) -> list[Agreement]:
    r"""DA-MRS."""
    graph = training_graph(toy_graph(FILES), ())
    items = cooccurrence_graph(
        Adjacency.from_edge_index(graph.edge_index, None, (graph.num_users, graph.num_items)).t(),
        2,
        2,
    )
    pointer, column, count = items.rowptr.tolist(), items.col.tolist(), items.value.tolist()
    lists = {
        row: [column[begin:end], count[begin:end]]
        for row, (begin, end) in enumerate(zip(pointer, pointer[1:]))
    }
    settings = {
        'knn_k': 5,
        'n_mm_layers': 1,
        'n_ui_layers': 2,
        'kl_weight': 1.0,
        'neighbor_weight': 0.1,
        'item_graph_dict_file': 'items.npy',
        'cf_model': 'lightgcn',
    }
    with pair(
        checkout,
        'damrs',
        'DAMRS',
        settings,
        'DAMRS',
        {'num_neighbors': 5, 'contrast_weight': 0.1},
        ('image', 'text'),
        {'items.npy': np.array(lists, dtype=object)},
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
        }
        both.start(tables)
        graphs = {
            'image': (theirs.image_adj, ours.content_graphs['image']),
            'text': (theirs.text_adj, ours.content_graphs['text']),
            'behavior': (theirs.session_adj, ours.behavior_graph),
        }
        return [
            *(
                Agreement(f'{name} item graph', their.to_dense(), dense_graph(our))
                for name, (their, our) in graphs.items()
            ),
            both.scores(),
            *both.losses(tables),
        ]


def smore(checkout: Path) -> list[Agreement]:
    r"""SMORE."""
    settings = {
        'n_ui_layers': 3,
        'n_layers': 1,
        'reg_weight': 0.0,
        'cl_loss': 0.1,
        'image_knn_k': 4,
        'text_knn_k': 5,
        'dropout_rate': 0.0,
        'train_batch_size': 64,
    }
    stand_in(
        'torch_scatter',
        scatter_add=lambda x, index, dim=0, dim_size=None: x.new_zeros(dim_size).index_add(
            0, index, x
        ),
    )
    with pair(
        checkout,
        'smore',
        'SMORE',
        settings,
        'SMORE',
        {'l2': 0.0, 'contrast_weight': 0.1, 'num_neighbors': {'image': 4, 'text': 5}},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        layers = {
            'fused gate': (theirs.gate_f[0], ours.fused_gate),
            'fused preference': (theirs.gate_fusion_prefer[0], ours.fused_preference),
        }
        for name, projection, gate, preference, query in (
            ('image', theirs.image_trs, theirs.gate_v, theirs.gate_image_prefer, theirs.query_v),
            ('text', theirs.text_trs, theirs.gate_t, theirs.gate_text_prefer, theirs.query_t),
        ):
            layers.update(
                {
                    f'{name} projection': (projection, ours.projections[name].linear),
                    f'{name} gate': (gate[0], ours.gates[name]),
                    f'{name} preference': (preference[0], ours.preferences[name]),
                    f'{name} query 1': (query[0], ours.queries[name][0]),
                    f'{name} query 2': (query[2], ours.queries[name][2]),
                }
            )
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
            **layer_tables(layers),
        }
        both.start(tables)
        filters = {
            'image': (theirs.image_complex_weight, ours.filters['image']),
            'text': (theirs.text_complex_weight, ours.filters['text']),
            'fused': (theirs.fusion_complex_weight, ours.fused_filter),
        }
        for name, (their, our) in filters.items():
            copy_weights(
                {
                    f'{name} real parts': (their[0, :, 0], our.real),
                    f'{name} imaginary parts': (their[0, 1:-1, 1], our.imag),
                }
            )
        return [both.scores(), *both.losses(tables, 'penalty off: theirs is of final rows')]


def pgl(checkout: Path) -> list[Agreement]:
    r"""PGL."""
    settings = {
        'mode': 'local',
        'knn_k': 4,
        'n_mm_layers': 1,
        'n_ui_layers': 2,
        'reg_weight': 0.1,
        'mm_image_weight': 0.1,
        'dropout': 0.0,
    }
    stand_in('sparsesvd', sparsesvd=None)  # for the global mode, which is not compared
    with pair(
        checkout,
        'pgl',
        'PGL',
        settings,
        'PGL',
        {
            'num_neighbors': 4,
            'contrast_weight': 0.1,
            'dropout': 0.0,
            'modality_weights': {'image': 0.1, 'text': 0.9},
        },
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            f'{name} users': (table.weight, ours.preferences[name])
            for name, table in (('image', theirs.user_image), ('text', theirs.user_text))
        }
        tables.update(
            layer_tables(
                {
                    f'{name} projection': (layer, ours.projections[name].linear)
                    for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))
                }
            )
        )
        both.start(tables)
        found = [both.scores('whole graph')]
        theirs.train()
        prune_equally(theirs, ours)
        return [*found, *both.losses(tables, 'same part of the interactions, without dropout')]


def mmgcf(checkout: Path) -> list[Agreement]:
    r"""MMGCF."""
    found = []
    for fusion in ('mean', 'sum', 'concat'):
        for weighting in ('equal', 'alpha', 'normalized'):
            with pair(
                checkout,
                'mmgcf',
                'MMGCF',
                {
                    'n_ui_layers': 2,
                    'reg_weight': 0.1,
                    'fusion_mode': fusion,
                    'weighting': weighting,
                    'dropout': 0.0,
                },
                'MMGCF',
                {'l2': 0.1, 'edge_dropout': 0.0, 'fusion': fusion, 'weighting': weighting},
                ('image', 'text'),
            ) as both:
                theirs, ours = both.theirs, both.ours
                layers = {
                    name: (layer, ours.projections[name].linear)
                    for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))
                }
                if fusion == 'concat':
                    outer = (
                        theirs.id_mm_concat_layer
                        if weighting == 'equal'
                        else theirs.all_concat_layer
                    )
                    layers['item map'] = outer, ours.item_map
                    if weighting == 'equal':
                        layers['content map'] = theirs.mm_concat_layer, ours.content_map
                tables = {
                    'user table': (theirs.user_embedding.weight, ours.embedding.user),
                    'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
                    **layer_tables(layers),
                }
                if weighting == 'alpha':
                    tables['share of IDs'] = theirs.mm_alpha, ours.alpha_logit
                both.start(tables)
                theirs.pre_epoch_processing()
                moved = {name: table for name, table in tables.items() if not name.endswith('bias')}
                note = (
                    f'{fusion}, {weighting}; biases left out, whose gradients cancel up to rounding'
                )
                found += [both.scores(f'{fusion}, {weighting}'), *both.losses(moved, note)]
    return found
