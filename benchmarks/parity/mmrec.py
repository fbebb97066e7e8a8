r"""Comparison with the MMRec toolbox (``agreement.py``); every model sees the same training
interactions and raw features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.common.foreign import stand_in
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    fixed_dropout,
    layer_tables,
    pair_agreements,
    randomize,
)
from benchmarks.parity.mmrec_graphs import damrs, dragon, lattice, lgmrec, mmgcf, mvgae, pgl, smore
from benchmarks.parity.mmrec_pair import (
    FROBENIUS,
    LOGARITHM,
    WIDTH,
    as_lists,
    dense_graph,
    pair,
    prune_equally,
    table_halves,
)

REPOSITORY = 'enoche/MMRec (GPL-3.0)'


def mf_bpr(checkout: Path) -> list[Agreement]:
    r"""MF-BPR."""
    with pair(checkout, 'bpr', 'BPR', {'reg_weight': 0.0}, 'MFBPR', {'l2': 0.0}) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_embedding.weight, ours.embedding.item),
        }
        both.start(tables)
        return [
            *pair_agreements(theirs(), ours.embed()),
            both.scores(),
            *both.losses(tables, f'{FROBENIUS}; {LOGARITHM}'),
        ]


def light_gcn(checkout: Path) -> list[Agreement]:
    r"""LightGCN."""
    with pair(
        checkout,
        'lightgcn',
        'LightGCN',
        {'reg_weight': 0.0, 'n_layers': 3},
        'LightGCN',
        {'l2': 0.0, 'num_layers': 3},
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.embedding_dict['user_emb'], ours.embedding.user),
            'item table': (theirs.embedding_dict['item_emb'], ours.embedding.item),
        }
        both.start(tables)
        return [
            *pair_agreements(theirs(), ours.embed()),
            both.scores(),
            *both.losses(tables, f'{FROBENIUS}; {LOGARITHM}'),
        ]


def vbpr(checkout: Path) -> list[Agreement]:
    r"""VBPR."""
    with pair(
        checkout,
        'vbpr',
        'VBPR',
        {'reg_weight': 0.5},
        'VBPR',
        {'l2': 0.5, 'penalty': 'frobenius'},
        ('text', 'image'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.u_embedding, ours.embedding.user),
            'item table': (theirs.i_embedding, ours.embedding.item),
            **layer_tables({'projection': (theirs.item_linear, ours.projection.linear)}),
        }
        both.start(tables)
        return [
            *pair_agreements(theirs(), ours.embed()),
            both.scores(),
            *both.losses(tables, LOGARITHM),
        ]


def bm3(checkout: Path) -> list[Agreement]:
    r"""BM3."""
    with pair(
        checkout,
        'bm3',
        'BM3',
        {'reg_weight': 0.1, 'cl_weight': 2.0, 'dropout': 0.5, 'n_layers': 2},
        'BM3',
        {
            'variant': 'released',
            'l2': 0.1,
            'penalty': 'frobenius',
            'content_weight': 2.0,
            'dropout': 0.5,
            'num_layers': 2,
        },
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        layers = {
            'image projection': (theirs.image_trs, ours.projections['image'].linear),
            'text projection': (theirs.text_trs, ours.projections['text'].linear),
            'predictor': (theirs.predictor, ours.predictor.linear),
        }
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
            **layer_tables(layers),
        }
        both.start(tables)
        tables.update(
            {
                'image features': (theirs.image_embedding.weight, ours.trained_features['image']),
                'text features': (theirs.text_embedding.weight, ours.trained_features['text']),
            }
        )
        found = [*pair_agreements(theirs(), ours.encode(), 'before the predictor'), both.scores()]
        with fixed_dropout():
            found += both.losses(
                tables,
                'same dropout; theirs drops entries once per node, ours once per row of the batch',
                negatives=False,
            )
        # One part less after the other, so that each term is compared.
        theirs.dropout = ours.predictor.dropout = 0.0
        found += both.losses({}, 'without dropout', negatives=False)
        theirs.reg_weight = ours.l2 = 0.0
        found += both.losses(
            {}, 'without dropout', 'alignments of graph and content', negatives=False
        )
        theirs.cl_weight = ours.content_weight = 0.0
        return found + both.losses({}, 'without dropout', 'alignments of graph', negatives=False)


def freedom(checkout: Path) -> list[Agreement]:
    r"""FREEDOM."""
    with pair(
        checkout,
        'freedom',
        'FREEDOM',
        {
            'reg_weight': 0.1,
            'dropout': 0.5,
            'n_ui_layers': 2,
            'n_mm_layers': 1,
            'knn_k': 4,
            'mm_image_weight': 0.1,
        },
        'FREEDOM',
        {
            'content_weight': 0.1,
            'edge_dropout': 0.5,
            'num_layers': 2,
            'num_item_layers': 1,
            'num_neighbors': 4,
            'modality_weights': {'image': 0.1, 'text': 0.9},
        },
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        layers = {
            f'{name} projection': (layer, ours.projections[name].linear)
            for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))
        }
        tables = {
            'user table': (theirs.user_embedding.weight, ours.embedding.user),
            'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
            **layer_tables(layers),
        }
        both.start(tables)
        found = [
            Agreement('item graph', theirs.mm_adj.to_dense(), dense_graph(ours.item_graph)),
            Agreement(
                'rates of pruning',
                theirs.edge_values,
                ours.interactions.adjacency.value[: ours.graph.num_edges],
            ),
            both.scores('whole graph'),
        ]
        prune_equally(theirs, ours)
        moved = {name: table for name, table in tables.items() if not name.endswith('bias')}
        note = (
            'same pruned graph; theirs also trains the features; biases cancel in BPR: gradient '
            'zero up to rounding'
        )
        return [
            *found,
            *pair_agreements(theirs(theirs.masked_adj), ours.embed(), 'same pruned graph'),
            *both.losses(moved, note),
        ]


def layer_gcn(checkout: Path) -> list[Agreement]:
    r"""LayerGCN."""
    with pair(
        checkout,
        'layergcn',
        'LayerGCN',
        {'reg_weight': 0.1, 'dropout': 0.5, 'n_layers': 4},
        'LayerGCN',
        {'l2': 0.1, 'edge_dropout': 0.5, 'num_layers': 4},
    ) as both:
        theirs, ours = both.theirs, both.ours
        tables = {
            'user table': (theirs.user_embeddings, ours.embedding.user),
            'item table': (theirs.item_embeddings, ours.embedding.item),
        }
        both.start(tables)
        found = [
            Agreement(
                'rates of pruning',
                theirs.edge_values,
                ours.interactions.adjacency.value[: ours.graph.num_edges],
            ),
            both.scores('whole graph'),
        ]
        prune_equally(theirs, ours)
        losses = both.losses(
            tables,
            'same pruned graph; theirs, a sum over the batch, divided by its size',
            factor=1 / len(both.batch.user),
        )
        return [*found, *pair_agreements(theirs(), ours.embed(), 'same pruned graph'), *losses]


def selfcfed(checkout: Path) -> list[Agreement]:
    r"""SELFCFED-LGN."""
    with pair(
        checkout,
        'selfcfed_lgn',
        'SELFCFED_LGN',
        {'reg_weight': 0.0, 'dropout': 0.5, 'n_layers': 2},
        'SELFCFED',
        {'l2': 0.0, 'dropout': 0.5, 'num_layers': 2},
    ) as both:
        theirs, ours = both.theirs, both.ours
        encoder = theirs.online_encoder
        tables = {
            'user table': (encoder.embedding_dict['user_emb'], ours.embedding.user),
            'item table': (encoder.embedding_dict['item_emb'], ours.embedding.item),
            **layer_tables({'predictor': (theirs.predictor, ours.predictor.linear)}),
        }
        both.start(tables)
        encoder.drop_flag = False
        note = (
            'same dropout; their dropout of edges off; penalty off: theirs is a sum over '
            'propagated rows; theirs plus 1, since C = 1 - cos'
        )
        users, users_start, items, items_start = theirs.get_embedding()
        found = pair_agreements(
            (torch.cat([users, users_start], 1), torch.cat([items_start, items], 1)), ours.embed()
        )
        with fixed_dropout():
            return [
                *found,
                both.scores(),
                *both.losses(tables, note, constant=1.0, negatives=False),
            ]


def mgcn(checkout: Path) -> list[Agreement]:
    r"""MGCN."""
    with pair(
        checkout,
        'mgcn',
        'MGCN',
        {
            'reg_weight': 0.0,
            'cl_loss': 0.1,
            'n_ui_layers': 2,
            'n_layers': 1,
            'knn_k': 4,
            'train_batch_size': 64,
        },
        'MGCN',
        {
            'l2': 0.0,
            'contrast_weight': 0.1,
            'num_layers': 2,
            'num_item_layers': 1,
            'num_neighbors': 4,
        },
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours.encoder
        layers = {
            'image projection': (theirs.image_trs, ours.encoders['image'].linear),
            'text projection': (theirs.text_trs, ours.encoders['text'].linear),
            'image gate': (theirs.gate_v[0], ours.gates['image'].linear),
            'text gate': (theirs.gate_t[0], ours.gates['text'].linear),
            'image preference': (theirs.gate_image_prefer[0], ours.specific_gates['image'].linear),
            'text preference': (theirs.gate_text_prefer[0], ours.specific_gates['text'].linear),
            'key': (theirs.query_common[0], ours.attention.key),
            'query': (theirs.query_common[2], ours.attention.query),
        }
        tables = {
            'user table': (theirs.user_embedding.weight, ours.user_embedding),
            'item table': (theirs.item_id_embedding.weight, ours.item_embedding),
            **layer_tables(layers),
        }
        both.start(tables)
        *_, side, content = theirs(theirs.norm_adj, train=True)
        views = both.ours.views()
        graphs = {'image': theirs.image_original_adj, 'text': theirs.text_original_adj}
        found = [
            *(
                Agreement(
                    f'{name} item graph', graph.to_dense(), dense_graph(ours.item_graphs[name])
                )
                for name, graph in graphs.items()
            ),
            Agreement('side view', side.detach(), views.side.detach()),
            Agreement('content view', content.detach(), views.content.detach()),
            *pair_agreements(theirs(theirs.norm_adj), both.ours.embed()),
            both.scores(),
        ]
        note = (
            'penalty off: theirs is of final rows, ours of initial ones; theirs also trains the '
            'features'
        )
        found += both.losses(tables, note)
        theirs.cl_loss = both.ours.contrast_weight = 0.0
        return found + both.losses({}, '', 'BPR')


def item_knn_cbf(checkout: Path) -> list[Agreement]:
    r"""ItemKNNCBF."""
    with pair(
        checkout,
        'itemknncbf',
        'ItemKNNCBF',
        {'knn_k': 4, 'shrink': 10.0},
        'ItemKNNCBF',
        {'k': 4, 'shrink': 10.0, 'include_self': True},
        ('image', 'text'),
    ) as both:
        return [both.scores('with each item among its own neighbors')]


def mmgcn(checkout: Path) -> list[Agreement]:
    r"""MMGCN."""
    with pair(
        checkout,
        'mmgcn',
        'MMGCN',
        {'reg_weight': 0.1, 'n_layers': 3},
        'MMGCN',
        {'variant': 'released', 'l2': 0.1, 'latent_channels': 6, 'num_layers': 3},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        # Their class for one modality, made again: text, wider than six, with the input map and
        # image without.
        network = type(theirs.v_gcn)
        sizes = theirs.n_users, theirs.n_items
        for name, features, latent in (('v_gcn', theirs.v_feat, None), ('t_gcn', theirs.t_feat, 6)):
            setattr(
                theirs,
                name,
                network(
                    theirs.edge_index,
                    64,
                    *sizes,
                    features.size(1),
                    WIDTH,
                    'mean',
                    theirs.concate,
                    3,
                    True,
                    latent,
                ),
            )
        layers, messages = {'text input': (theirs.t_gcn.MLP, ours.inputs['text'].linear)}, []
        for name, side in (('image', theirs.v_gcn), ('text', theirs.t_gcn)):
            for number, layer in enumerate(ours.networks[name], start=1):
                layers[f'{name} own row {number}'] = (
                    getattr(side, f'linear_layer{number}'),
                    layer.own,
                )
                layers[f'{name} update {number}'] = getattr(side, f'g_layer{number}'), layer.update
                messages.append(
                    (
                        f'{name} message {number}',
                        getattr(side, f'conv_embed_{number}').weight,
                        layer.message.weight,
                    )
                )
        tables = layer_tables(layers)
        preferences = {'image': theirs.v_gcn.preference, 'text': theirs.t_gcn.preference}
        for group in (tables.values(), [(weight, None) for _, weight, _ in messages]):
            randomize(side for side, _ in group)
        randomize([theirs.id_embedding, *preferences.values()], seed=1)
        copy_weights(
            {
                **tables,
                **{name: (first.t(), second) for name, first, second in messages},
                **{name: (table, ours.preferences[name]) for name, table in preferences.items()},
                **table_halves(theirs.id_embedding, ours),
            }
        )
        note = 'tables frozen on both sides; the penalty, constant, has image alone'
        found = both.losses(tables, note)
        rows = theirs()
        found += pair_agreements(rows.split(sizes), ours.embed())
        weight = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
        gradients = (
            torch.autograd.grad((out * weight).sum(), list(parameters))
            for out, parameters in (
                (rows, (first for _, first, _ in messages)),
                (torch.cat(ours.embed()), (second for *_, second in messages)),
            )
        )
        found += [
            Agreement(f'gradient of a sum of the embeddings: {name}', first.t(), second)
            for (name, *_), first, second in zip(messages, *gradients)
        ]
        return [*found, both.scores('theirs, of the last batch, at equal weights')]


def grcn(checkout: Path) -> list[Agreement]:
    r"""GRCN."""
    with pair(
        checkout,
        'grcn',
        'GRCN',
        {'reg_weight': 0.1, 'n_layers': 3, 'latent_embedding': 6},
        'GRCN',
        {'variant': 'released', 'l2': 0.1, 'content_channels': 6},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        sides = {'image': theirs.v_gcn, 'text': theirs.t_gcn}
        tables = {
            **{
                f'{name} preferences': (side.preference, ours.preferences[name])
                for name, side in sides.items()
            },
            **layer_tables(
                {
                    f'{name} projection': (side.MLP, ours.projections[name].linear)
                    for name, side in sides.items()
                }
            ),
        }
        both.start(tables)
        randomize([theirs.id_gcn.id_embedding, theirs.model_specific_conf], seed=1)
        halves = theirs.model_specific_conf.split([theirs.n_users, theirs.n_items])
        copy_weights(
            {
                **table_halves(theirs.id_gcn.id_embedding, ours),
                'user confidence': (halves[0], ours.user_confidence),
                'item confidence': (halves[1], ours.item_confidence),
            }
        )
        note = (
            'without routing, which in theirs reaches no user; the preferences of image '
            'penalized twice'
        )
        found = both.losses(tables, note)
        return [
            *pair_agreements(theirs().split([theirs.n_users, theirs.n_items]), ours.embed(), note),
            *found,
            both.scores(note),
        ]


def dualgnn(checkout: Path) -> list[Agreement]:
    r"""DualGNN."""
    settings = {
        'embedding_size': 64,
        'reg_weight': 0.1,
        'aggr_mode': 'add',
        'user_graph_dict_file': 'users.npy',
    }
    with pair(
        checkout,
        'dualgnn',
        'DualGNN',
        settings,
        'DualGNN',
        {'variant': 'released', 'hidden_channels': 64, 'l2': 0.1, 'num_neighbors': 5},
        ('image', 'text'),
        {'users.npy': np.array({}, dtype=object)},
    ) as both:
        theirs, ours = both.theirs, both.ours
        sides = {'image': theirs.v_gcn, 'text': theirs.t_gcn}
        layers = {}
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
        torch.nn.init.zeros_(theirs.weight_i)  # penalized and used nowhere
        copy_weights({'weights of modalities': (theirs.weight_u[:, :, 0], ours.streams.weight)})
        del theirs.result_embed  # a parameter to which its forward pass assigns a tensor
        theirs.epoch_user_graph, theirs.user_weight_matrix = as_lists(ours.user_graph(), 5)
        note = (
            'same graph of users, for theirs fails with fewer than 32 of them; theirs, and so the '
            'released variant, adds the modalities of the items into the first one of the users'
        )
        found = both.losses(tables, note)
        rows = theirs.result_embed.split([theirs.n_users, theirs.n_items])
        return [*pair_agreements(rows, ours.embed(), note), *found, both.scores(note)]


def slmrec(checkout: Path) -> list[Agreement]:
    r"""SLMRec."""
    settings = {
        'recdim': WIDTH,
        'layer_num': 3,
        'mm_fusion_mode': 'concat',
        'temp': 0.2,
        'init': 'xavier',
        'adj_type': 'pre',
        'ssl_task': 'FAC',
        'ssl_temp': 0.5,
        'ssl_alpha': 0.3,
    }
    stand_in('torch_scatter', scatter=None)  # imported and not used
    with pair(
        checkout,
        'slmrec',
        'SLMRec',
        settings,
        'SLMRec',
        {'num_layers': 3, 'task_weight': 0.3, 'task_temperature': 0.5, 'mask_duplicates': False},
        ('image', 'text'),
    ) as both:
        theirs, ours = both.theirs, both.ours
        layers = {
            'image projection': (theirs.v_dense, ours.projections['image'].linear),
            'text projection': (theirs.t_dense, ours.projections['text'].linear),
            'user fusion': (theirs.embedding_user_after_GCN, ours.user_fusion),
            'item fusion': (theirs.embedding_item_after_GCN, ours.item_fusion),
            'image map': (theirs.g_i_iv, ours.chain.maps['image']),
            'text map': (theirs.g_iva_ivat, ours.chain.maps['text']),
        }
        tables = {
            'user table': (theirs.embedding_user.weight, ours.embedding.user),
            'item table': (theirs.embedding_item.weight, ours.embedding.item),
            **layer_tables(layers),
            'image head': (theirs.g_v_iv.weight, ours.chain.heads['image'].weight),
            'text head': (theirs.g_t_ivat.weight, ours.chain.heads['text'].weight),
        }
        both.start(tables)
        torch.nn.init.eye_(theirs.g_iv_iva.weight)
        torch.nn.init.zeros_(theirs.g_iv_iva.bias)
        note = (
            'their map of an absent audio is the identity; their heads have biases, which change '
            'nothing'
        )
        found = [
            *pair_agreements(theirs.compute(), ours.embed()),
            *both.losses(tables, note, negatives=False),
        ]
        scores = both.scores('theirs pass a sigmoid; so do ours here')
        return [*found, scores._replace(ours=scores.ours.sigmoid())]


MODELS = {
    'ItemKNNCBF': item_knn_cbf,
    'MFBPR': mf_bpr,
    'LightGCN': light_gcn,
    'VBPR': vbpr,
    'LayerGCN': layer_gcn,
    'SELFCFED': selfcfed,
    'MMGCN': mmgcn,
    'GRCN': grcn,
    'DualGNN': dualgnn,
    'SLMRec': slmrec,
    'BM3': bm3,
    'FREEDOM': freedom,
    'MGCN': mgcn,
    'LATTICE': lattice,
    'DRAGON': dragon,
    'MVGAE': mvgae,
    'LGMRec': lgmrec,
    'DAMRS': damrs,
    'SMORE': smore,
    'PGL': pgl,
    'MMGCF': mmgcf,
}
