r"""Comparison with the MMRec toolbox (``agreement.py``); every model sees the same training interactions and raw features.

The models are built from their classes, on an object with the few methods that they ask of a loader, and features in files.
"""
from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional
from unittest.mock import patch

import numpy as np
import torch
from _agreement import (
    Agreement,
    Tables,
    copy_weights,
    fixed_dropout,
    foreign_code,
    layer_tables,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from _foreign import stand_in
from scipy.sparse import coo_matrix
from torch import Tensor

from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.models import MODELS as OURS
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, cooccurrence_graph

REPOSITORY = 'enoche/MMRec (GPL-3.0)'
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
    r"""What the models ask of a loader: sizes and the matrix of training interactions, in the order of our graph.

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
        return coo_matrix((np.ones(self._graph.num_edges), tuple(self._graph.edge_index.numpy())), size).asformat(form)


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

    def losses(self, tables: Tables, note: str = '', name: str = 'loss', factor: float = 1.0, constant: float = 0.0,
               negatives: bool = True) -> list[Agreement]:
        r"""Agreement of the sums of all terms; theirs is multiplied by ``factor``, and ``constant`` added."""
        rows = torch.stack(self.batch if negatives else self.batch[:2])
        theirs = factor * self.theirs.calculate_loss(rows) + constant
        return loss_agreements(theirs, sum(self.ours.loss(self.batch).values()), tables, note, name)

    def scores(self, note: str = '') -> Agreement:
        r"""Agreement of the scores of all items for all users, in evaluation mode."""
        user = torch.arange(self.ours.num_users)
        self.theirs.eval()  # as ours within its context: no dropout, the whole graph
        with torch.no_grad(), self.ours.cached_embeddings():
            return Agreement('scores', self.theirs.full_sort_predict([user]), self.ours.score(user), note)


@contextmanager
def pair(checkout: Path, module: str, name: str, settings: dict[str, Any], model: str, hyper: dict[str, Any],
         modalities: tuple[str, ...] = (), files: Optional[dict[str, Any]] = None) -> Iterator[Pair]:
    r"""Builds class ``name`` of their ``module`` with ``settings`` beside our ``model`` with arguments ``hyper``; theirs also
    finds the arrays ``files``."""
    data = toy_graph(FILES)
    graph = training_graph(data, modalities)
    with foreign_code(checkout / 'src'), tempfile.TemporaryDirectory() as folder:
        for modality, file in FILES.items():
            np.save(Path(folder) / file, data[modality].x.numpy())
        for file, content in (files or {}).items():
            np.save(Path(folder) / file, content)
        # A module of theirs looks for the folder `common` inside `models`, where it is not, and cannot be imported otherwise.
        for part in ('common', 'common.abstract_recommender', 'common.loss'):
            sys.modules[f'models.{part}'] = importlib.import_module(part)
        config = Settings({'embedding_size': WIDTH, 'feat_embed_dim': WIDTH, 'device': torch.device('cpu'), 'end2end': False,
                           'is_multimodal_model': bool(modalities), 'data_path': f'{folder}/', 'dataset': '',
                           'vision_feature_file': FILES['image'], 'text_feature_file': FILES['text'],
                           'USER_ID_FIELD': 'user', 'ITEM_ID_FIELD': 'item', 'NEG_PREFIX': 'neg_', **settings})
        theirs = getattr(importlib.import_module(f'models.{module}'), name)(config, Interactions(graph))
        width = {'hidden_channels': WIDTH} if OURS[model].trained else {}
        yield Pair(theirs, get_model(model)(graph, **{**width, **hyper}), graph)


def mf_bpr(checkout: Path) -> list[Agreement]:
    r"""MF-BPR."""
    with pair(checkout, 'bpr', 'BPR', {'reg_weight': 0.0}, 'MFBPR', {'l2': 0.0}) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_embedding.weight, ours.embedding.item)}
        both.start(tables)
        return [*pair_agreements(theirs(), ours.embed()), both.scores(),
                *both.losses(tables, f'{FROBENIUS}; {LOGARITHM}')]


def light_gcn(checkout: Path) -> list[Agreement]:
    r"""LightGCN."""
    with pair(checkout, 'lightgcn', 'LightGCN', {'reg_weight': 0.0, 'n_layers': 3}, 'LightGCN',
              {'l2': 0.0, 'num_layers': 3}) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.embedding_dict['user_emb'], ours.embedding.user),
                  'item table': (theirs.embedding_dict['item_emb'], ours.embedding.item)}
        both.start(tables)
        return [*pair_agreements(theirs(), ours.embed()), both.scores(),
                *both.losses(tables, f'{FROBENIUS}; {LOGARITHM}')]


def vbpr(checkout: Path) -> list[Agreement]:
    r"""VBPR."""
    with pair(checkout, 'vbpr', 'VBPR', {'reg_weight': 0.5}, 'VBPR', {'l2': 0.5, 'reg': 'frobenius'},
              ('text', 'image')) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.u_embedding, ours.embedding.user),
                  'item table': (theirs.i_embedding, ours.embedding.item),
                  **layer_tables({'projection': (theirs.item_linear, ours.projection.linear)})}
        both.start(tables)
        return [*pair_agreements(theirs(), ours.embed()), both.scores(), *both.losses(tables, LOGARITHM)]


def bm3(checkout: Path) -> list[Agreement]:
    r"""BM3."""
    with pair(checkout, 'bm3', 'BM3', {'reg_weight': 0.1, 'cl_weight': 2.0, 'dropout': 0.5, 'n_layers': 2}, 'BM3',
              {'variant': 'released', 'l2': 0.1, 'reg': 'frobenius', 'content_weight': 2.0, 'dropout': 0.5, 'num_layers': 2},
              ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        layers = {'image projection': (theirs.image_trs, ours.projections['image'].linear),
                  'text projection': (theirs.text_trs, ours.projections['text'].linear),
                  'predictor': (theirs.predictor, ours.predictor.linear)}
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item), **layer_tables(layers)}
        both.start(tables)
        tables.update({'image features': (theirs.image_embedding.weight, ours.trained_features['image']),
                       'text features': (theirs.text_embedding.weight, ours.trained_features['text'])})
        found = [*pair_agreements(theirs(), ours.encode(), 'before the predictor'), both.scores()]
        with fixed_dropout():
            found += both.losses(tables, 'same dropout; theirs drops entries once per node, ours once per row of the batch',
                                 negatives=False)
        # One part less after the other, so that each term is compared.
        theirs.dropout = ours.predictor.dropout = 0.0
        found += both.losses({}, 'without dropout', negatives=False)
        theirs.reg_weight = ours.l2 = 0.0
        found += both.losses({}, 'without dropout', 'alignments of graph and content', negatives=False)
        theirs.cl_weight = ours.content_weight = 0.0
        return found + both.losses({}, 'without dropout', 'alignments of graph', negatives=False)


def freedom(checkout: Path) -> list[Agreement]:
    r"""FREEDOM."""
    with pair(checkout, 'freedom', 'FREEDOM',
              {'reg_weight': 0.1, 'dropout': 0.5, 'n_ui_layers': 2, 'n_mm_layers': 1, 'knn_k': 4, 'mm_image_weight': 0.1},
              'FREEDOM', {'content_weight': 0.1, 'ratio': 0.5, 'num_layers': 2, 'num_item_layers': 1, 'num_neighbors': 4,
                          'modality_weights': {'image': 0.1, 'text': 0.9}}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        layers = {f'{name} projection': (layer, ours.projections[name].linear)
                  for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))}
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item), **layer_tables(layers)}
        both.start(tables)
        found = [Agreement('item graph', theirs.mm_adj.to_dense(), _dense(ours.item_graph)),
                 Agreement('rates of pruning', theirs.edge_values, ours.interactions.adjacency.value[:ours.graph.num_edges]),
                 both.scores('whole graph')]
        _prune_equally(theirs, ours)
        moved = {name: table for name, table in tables.items() if not name.endswith('bias')}
        note = 'same pruned graph; theirs also trains the features; biases cancel in BPR: gradient zero up to rounding'
        return [*found, *pair_agreements(theirs(theirs.masked_adj), ours.embed(), 'same pruned graph'),
                *both.losses(moved, note)]


def layer_gcn(checkout: Path) -> list[Agreement]:
    r"""LayerGCN."""
    with pair(checkout, 'layergcn', 'LayerGCN', {'reg_weight': 0.1, 'dropout': 0.5, 'n_layers': 4}, 'LayerGCN',
              {'l2': 0.1, 'ratio': 0.5, 'num_layers': 4}) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.user_embeddings, ours.embedding.user),
                  'item table': (theirs.item_embeddings, ours.embedding.item)}
        both.start(tables)
        found = [Agreement('rates of pruning', theirs.edge_values, ours.interactions.adjacency.value[:ours.graph.num_edges]),
                 both.scores('whole graph')]
        _prune_equally(theirs, ours)
        losses = both.losses(tables, 'same pruned graph; theirs, a sum over the batch, divided by its size',
                             factor=1 / len(both.batch.user))
        return [*found, *pair_agreements(theirs(), ours.embed(), 'same pruned graph'), *losses]


def selfcfed(checkout: Path) -> list[Agreement]:
    r"""SELFCFED-LGN."""
    with pair(checkout, 'selfcfed_lgn', 'SELFCFED_LGN', {'reg_weight': 0.0, 'dropout': 0.5, 'n_layers': 2}, 'SELFCFED',
              {'l2': 0.0, 'dropout': 0.5, 'num_layers': 2}) as both:
        theirs, ours = both.theirs, both.ours
        encoder = theirs.online_encoder
        tables = {'user table': (encoder.embedding_dict['user_emb'], ours.embedding.user),
                  'item table': (encoder.embedding_dict['item_emb'], ours.embedding.item),
                  **layer_tables({'predictor': (theirs.predictor, ours.predictor.linear)})}
        both.start(tables)
        encoder.drop_flag = False
        note = ('same dropout; their dropout of edges off; penalty off: theirs is a sum over propagated rows; theirs plus 1, '
                'since C = 1 - cos')
        users, users_start, items, items_start = theirs.get_embedding()
        found = pair_agreements((torch.cat([users, users_start], 1), torch.cat([items_start, items], 1)), ours.embed())
        with fixed_dropout():
            return [*found, both.scores(), *both.losses(tables, note, constant=1.0, negatives=False)]


def mgcn(checkout: Path) -> list[Agreement]:
    r"""MGCN."""
    with pair(checkout, 'mgcn', 'MGCN',
              {'reg_weight': 0.0, 'cl_loss': 0.1, 'n_ui_layers': 2, 'n_layers': 1, 'knn_k': 4, 'train_batch_size': 64},
              'MGCN', {'l2': 0.0, 'contrast_weight': 0.1, 'num_layers': 2, 'num_item_layers': 1, 'num_neighbors': 4},
              ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours.encoder
        layers = {'image projection': (theirs.image_trs, ours.encoders['image'].linear),
                  'text projection': (theirs.text_trs, ours.encoders['text'].linear),
                  'image gate': (theirs.gate_v[0], ours.gates['image'].linear),
                  'text gate': (theirs.gate_t[0], ours.gates['text'].linear),
                  'image preference': (theirs.gate_image_prefer[0], ours.specific_gates['image'].linear),
                  'text preference': (theirs.gate_text_prefer[0], ours.specific_gates['text'].linear),
                  'key': (theirs.query_common[0], ours.attention.key),
                  'query': (theirs.query_common[2], ours.attention.query)}
        tables = {'user table': (theirs.user_embedding.weight, ours.user_embedding),
                  'item table': (theirs.item_id_embedding.weight, ours.item_embedding), **layer_tables(layers)}
        both.start(tables)
        *_, side, content = theirs(theirs.norm_adj, train=True)
        views = both.ours.views()
        graphs = {'image': theirs.image_original_adj, 'text': theirs.text_original_adj}
        found = [*(Agreement(f'{name} item graph', graph.to_dense(), _dense(ours.item_graphs[name]))
                   for name, graph in graphs.items()),
                 Agreement('side view', side.detach(), views.side.detach()),
                 Agreement('content view', content.detach(), views.content.detach()),
                 *pair_agreements(theirs(theirs.norm_adj), both.ours.embed()), both.scores()]
        note = 'penalty off: theirs is of final rows, ours of initial ones; theirs also trains the features'
        found += both.losses(tables, note)
        theirs.cl_loss = both.ours.contrast_weight = 0.0
        return found + both.losses({}, '', 'BPR')


def item_knn_cbf(checkout: Path) -> list[Agreement]:
    r"""ItemKNNCBF."""
    with pair(checkout, 'itemknncbf', 'ItemKNNCBF', {'knn_k': 4, 'shrink': 10.0}, 'ItemKNNCBF',
              {'k': 4, 'shrink': 10.0, 'include_self': True}, ('image', 'text')) as both:
        return [both.scores('with each item among its own neighbors')]


def mmgcn(checkout: Path) -> list[Agreement]:
    r"""MMGCN."""
    with pair(checkout, 'mmgcn', 'MMGCN', {'reg_weight': 0.1, 'n_layers': 3}, 'MMGCN',
              {'variant': 'released', 'l2': 0.1, 'latent_channels': 6, 'num_layers': 3}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        # Their class for one modality, made again: text, wider than six, with the input map and image without.
        network = type(theirs.v_gcn)
        sizes = theirs.n_users, theirs.n_items
        for name, features, latent in (('v_gcn', theirs.v_feat, None), ('t_gcn', theirs.t_feat, 6)):
            setattr(theirs, name, network(theirs.edge_index, 64, *sizes, features.size(1), WIDTH, 'mean', theirs.concate, 3,
                                          True, latent))
        layers, messages = {'text input': (theirs.t_gcn.MLP, ours.inputs['text'].linear)}, []
        for name, side in (('image', theirs.v_gcn), ('text', theirs.t_gcn)):
            for number, layer in enumerate(ours.networks[name], start=1):
                layers[f'{name} own row {number}'] = getattr(side, f'linear_layer{number}'), layer.own
                layers[f'{name} update {number}'] = getattr(side, f'g_layer{number}'), layer.update
                messages.append((f'{name} message {number}', getattr(side, f'conv_embed_{number}').weight,
                                 layer.message.weight))
        tables = layer_tables(layers)
        preferences = {'image': theirs.v_gcn.preference, 'text': theirs.t_gcn.preference}
        for group in (tables.values(), [(weight, None) for _, weight, _ in messages]):
            randomize(side for side, _ in group)
        randomize([theirs.id_embedding, *preferences.values()], seed=1)
        copy_weights({**tables, **{name: (first.t(), second) for name, first, second in messages},
                      **{name: (table, ours.preferences[name]) for name, table in preferences.items()},
                      **_halves(theirs.id_embedding, ours)})
        note = 'tables frozen on both sides; the penalty, constant, has image alone'
        found = both.losses(tables, note)
        rows = theirs()
        found += pair_agreements(rows.split(sizes), ours.embed())
        weight = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
        gradients = (torch.autograd.grad((out * weight).sum(), list(parameters)) for out, parameters in (
            (rows, (first for _, first, _ in messages)), (torch.cat(ours.embed()), (second for *_, second in messages))))
        found += [Agreement(f'gradient of a sum of the embeddings: {name}', first.t(), second)
                  for (name, *_), first, second in zip(messages, *gradients)]
        return [*found, both.scores('theirs, of the last batch, at equal weights')]


def grcn(checkout: Path) -> list[Agreement]:
    r"""GRCN."""
    with pair(checkout, 'grcn', 'GRCN', {'reg_weight': 0.1, 'n_layers': 3, 'latent_embedding': 6}, 'GRCN',
              {'variant': 'released', 'l2': 0.1, 'content_channels': 6}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        sides = {'image': theirs.v_gcn, 'text': theirs.t_gcn}
        tables = {**{f'{name} preferences': (side.preference, ours.preferences[name]) for name, side in sides.items()},
                  **layer_tables({f'{name} projection': (side.MLP, ours.projections[name].linear)
                                  for name, side in sides.items()})}
        both.start(tables)
        randomize([theirs.id_gcn.id_embedding, theirs.model_specific_conf], seed=1)
        halves = theirs.model_specific_conf.split([theirs.n_users, theirs.n_items])
        copy_weights({**_halves(theirs.id_gcn.id_embedding, ours),
                      'user confidence': (halves[0], ours.user_confidence),
                      'item confidence': (halves[1], ours.item_confidence)})
        note = 'without routing, which in theirs reaches no user; the preferences of image penalized twice'
        found = both.losses(tables, note)
        return [*pair_agreements(theirs().split([theirs.n_users, theirs.n_items]), ours.embed(), note), *found,
                both.scores(note)]


def dualgnn(checkout: Path) -> list[Agreement]:
    r"""DualGNN."""
    settings = {'embedding_size': 64, 'reg_weight': 0.1, 'aggr_mode': 'add', 'user_graph_dict_file': 'users.npy'}
    with pair(checkout, 'dualgnn', 'DualGNN', settings, 'DualGNN',
              {'variant': 'released', 'hidden_channels': 64, 'l2': 0.1, 'num_neighbors': 5}, ('image', 'text'),
              {'users.npy': np.array({}, dtype=object)}) as both:
        theirs, ours = both.theirs, both.ours
        sides = {'image': theirs.v_gcn, 'text': theirs.t_gcn}
        layers = {}
        for name, side in sides.items():
            encoder = ours.streams.encoders[name]
            layers.update({f'{name} map 1': (side.MLP, encoder.first), f'{name} map 2': (side.MLP_1, encoder.second)})
        tables = {**{f'{name} preferences': (side.preference, ours.streams.preferences[name])
                     for name, side in sides.items()}, **layer_tables(layers)}
        both.start(tables)
        randomize([theirs.weight_u], seed=1)
        torch.nn.init.zeros_(theirs.weight_i)  # penalized and used nowhere
        copy_weights({'weights of modalities': (theirs.weight_u[:, :, 0], ours.streams.weight)})
        del theirs.result_embed  # a parameter to which its forward pass assigns a tensor
        theirs.epoch_user_graph, theirs.user_weight_matrix = _as_lists(ours.user_graph(), 5)
        note = ('same graph of users, for theirs fails with fewer than 32 of them; theirs, and so the released variant, adds '
                'the modalities of the items into the first one of the users')
        found = both.losses(tables, note)
        rows = theirs.result_embed.split([theirs.n_users, theirs.n_items])
        return [*pair_agreements(rows, ours.embed(), note), *found, both.scores(note)]


def slmrec(checkout: Path) -> list[Agreement]:
    r"""SLMRec."""
    settings = {'recdim': WIDTH, 'layer_num': 3, 'mm_fusion_mode': 'concat', 'temp': 0.2, 'init': 'xavier',
                'adj_type': 'pre', 'ssl_task': 'FAC', 'ssl_temp': 0.5, 'ssl_alpha': 0.3}
    stand_in('torch_scatter', scatter=None)  # imported and not used
    with pair(checkout, 'slmrec', 'SLMRec', settings, 'SLMRec',
              {'num_layers': 3, 'task_weight': 0.3, 'task_temperature': 0.5, 'mask_duplicates': False},
              ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        layers = {'image projection': (theirs.v_dense, ours.projections['image'].linear),
                  'text projection': (theirs.t_dense, ours.projections['text'].linear),
                  'user fusion': (theirs.embedding_user_after_GCN, ours.user_fusion),
                  'item fusion': (theirs.embedding_item_after_GCN, ours.item_fusion),
                  'image map': (theirs.g_i_iv, ours.chain.maps['image']),
                  'text map': (theirs.g_iva_ivat, ours.chain.maps['text'])}
        tables = {'user table': (theirs.embedding_user.weight, ours.embedding.user),
                  'item table': (theirs.embedding_item.weight, ours.embedding.item), **layer_tables(layers),
                  'image head': (theirs.g_v_iv.weight, ours.chain.heads['image'].weight),
                  'text head': (theirs.g_t_ivat.weight, ours.chain.heads['text'].weight)}
        both.start(tables)
        torch.nn.init.eye_(theirs.g_iv_iva.weight)
        torch.nn.init.zeros_(theirs.g_iv_iva.bias)
        note = 'their map of an absent audio is the identity; their heads have biases, which change nothing'
        found = [*pair_agreements(theirs.compute(), ours.embed()), *both.losses(tables, note, negatives=False)]
        scores = both.scores('theirs pass a sigmoid; so do ours here')
        return [*found, scores._replace(ours=scores.ours.sigmoid())]


def _halves(table: Tensor, ours: Any) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Tables of users and of items of one that holds both."""
    user, item = table.split([ours.num_users, ours.num_items])
    return {'user table': (user, ours.embedding.user), 'item table': (item, ours.embedding.item)}


def _as_lists(graph: Adjacency, length: int) -> tuple[Tensor, Tensor]:
    r"""Neighbors ``[U, length]`` of a graph and their weights, short lists filled by user 0 with weight 0."""
    (row, col), value = graph.to_edge_index()
    place = torch.arange(graph.nnz) - graph.rowptr[row]
    neighbors, weights = torch.zeros(graph.size[0], length, dtype=torch.long), torch.zeros(graph.size[0], length)
    neighbors[row, place], weights[row, place] = col, value
    return neighbors, weights


def lattice(checkout: Path) -> list[Agreement]:
    r"""LATTICE."""
    with pair(checkout, 'lattice', 'LATTICE', {'weight_size': [WIDTH] * 2, 'knn_k': 4, 'lambda_coeff': 0.7,
                                               'cf_model': 'lightgcn', 'n_layers': 1, 'reg_weight': 0.0,
                                               'train_batch_size': 64},
              'LATTICE', {'l2': 0.0, 'num_neighbors': 4, 'original_weight': 0.7}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
                  'logits of modalities': (theirs.modal_weight, ours.modality_logits),
                  **layer_tables({name: (layer, ours.projections[name].linear)
                                  for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))})}
        both.start(tables)
        found = [both.scores()]
        both.theirs.train()
        theirs.pre_epoch_processing()
        return [*found, *both.losses(tables, 'first batch of an epoch, the only one in which their projections learn; penalty '
                                             'off: theirs is of final rows')]


def dragon(checkout: Path) -> list[Agreement]:
    r"""DRAGON."""
    settings = {'reg_weight': 0.1, 'aggr_mode': 'add', 'user_graph_dict_file': 'users.npy', 'n_mm_layers': 1, 'knn_k': 4,
                'mm_image_weight': 0.1, 'embedding_size': 64, 'feat_embed_dim': 64}
    with pair(checkout, 'dragon', 'DRAGON', settings, 'DRAGON',
              {'hidden_channels': 64, 'l2': 0.1, 'num_neighbors': 4, 'num_co_users': 5,
               'modality_weights': {'image': 0.1, 'text': 0.9}}, ('image', 'text'),
              {'users.npy': np.array({}, dtype=object)}) as both:
        theirs, ours = both.theirs, both.ours
        sides, layers = {'image': theirs.v_gcn, 'text': theirs.t_gcn}, {}
        for name, side in sides.items():
            encoder = ours.streams.encoders[name]
            layers.update({f'{name} map 1': (side.MLP, encoder.first), f'{name} map 2': (side.MLP_1, encoder.second)})
        tables = {**{f'{name} preferences': (side.preference, ours.streams.preferences[name])
                     for name, side in sides.items()}, **layer_tables(layers)}
        both.start(tables)
        randomize([theirs.weight_u], seed=1)
        copy_weights({'weights of modalities': (theirs.weight_u[:, :, 0], ours.streams.weight)})
        del theirs.result_embed  # a parameter to which its forward pass assigns a tensor
        theirs.epoch_user_graph, theirs.user_weight_matrix = _as_lists(ours.user_graph(), 5)
        found = both.losses(tables, 'same graph of users, for theirs pads short lists by chance')
        rows = theirs.result_embed.split([theirs.n_users, theirs.n_items])
        return [Agreement('item graph', theirs.mm_adj.to_dense(), _dense(ours.item_graph)),
                *pair_agreements(rows, ours.embed()), *found, both.scores()]


def mvgae(checkout: Path) -> list[Agreement]:
    r"""MVGAE."""
    with pair(checkout, 'mvgae', 'MVGAE', {'n_layers': 1, 'beta': 0.1, 'train_batch_size': 64}, 'MVGAE',
              {'squash': False}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        both.theirs.eval()
        both.ours.eval()
        sides = {'image': (theirs.v_gcn, ours.experts['image']), 'text': (theirs.t_gcn, ours.experts['text']),
                 'free table': (theirs.c_gcn, ours.item_expert)}
        tables = {}
        for name, (side, expert) in sides.items():
            tables[f'{name} preferences'] = side.preference, expert.preference
            convs = {'layer': (side.conv_embed_1, side.g_layer1, expert.layers[0]),
                     'mean': (side.conv_embed_4, side.g_layer4, expert.heads[0]),
                     'variance': (side.conv_embed_5, side.g_layer5, expert.heads[1])}
            for part, (conv, linear, our) in convs.items():
                tables[f'{name} {part} map'] = conv.weight, our.weight
                tables[f'{name} {part} map bias'] = conv.bias, our.bias
                tables.update(layer_tables({f'{name} {part}': (linear, our.linear)}))
            tables.update(layer_tables({f'{name} input': (side.MLP, expert.input),
                                        f'{name} mean skip': (side.linear_layer4, expert.skips[0]),
                                        f'{name} variance skip': (side.linear_layer5, expert.skips[1])}))
        both.start(tables)
        copy_weights({'free table': (theirs.collaborative, ours.item_table)})
        with torch.no_grad():
            mean, log_variance, _, *parts = theirs()
            posteriors = both.ours.posteriors()
        note = 'their loss is not compared: it reads items from rows of users and squashes scores twice'
        found = []
        for name, theirs_mean, theirs_log, our in zip(('image', 'text', 'free table', 'product'), [*parts[::2], mean],
                                                      [*parts[1::2], log_variance], posteriors):
            found += [Agreement(f'{name} means', theirs_mean, our.mean, note),
                      Agreement(f'{name} log variances', theirs_log, our.log_variance),
                      Agreement(f'{name} distance', theirs.kl_loss(theirs_mean, theirs_log).detach(), our.kl().mean())]
        return found


def lgmrec(checkout: Path) -> list[Agreement]:
    r"""LGMRec."""
    settings = {'cf_model': 'lightgcn', 'n_mm_layers': 2, 'n_ui_layers': 2, 'n_hyper_layer': 2, 'hyper_num': 4,
                'keep_rate': 1.0, 'alpha': 0.3, 'cl_weight': 0.01, 'reg_weight': 0.1}
    with pair(checkout, 'lgmrec', 'LGMRec', settings, 'LGMRec',
              {'num_hyper_layers': 2, 'keep': 1.0, 'contrast_weight': 0.64, 'l2': 0.1}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item),
                  'image projection': (theirs.item_image_trs, ours.projections['image']),
                  'text projection': (theirs.item_text_trs, ours.projections['text']),
                  'image hyperedges': (theirs.v_hyper, ours.hyperedges['image']),
                  'text hyperedges': (theirs.t_hyper, ours.hyperedges['text'])}
        both.start(tables)
        both.ours.eval()  # without noise, as theirs in this comparison

        def softmax(x: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
            return torch.softmax(x / tau, dim)

        with patch.object(torch.nn.functional, 'gumbel_softmax', softmax):
            return [both.scores('noise off on both sides'),
                    *both.losses(tables, 'noise and dropout off; their contrast is a sum over the batch')]


def damrs(checkout: Path) -> list[Agreement]:
    r"""DA-MRS."""
    graph = training_graph(toy_graph(FILES), ())
    items = cooccurrence_graph(Adjacency.from_edge_index(graph.edge_index, None, (graph.num_users, graph.num_items)).t(), 2, 2)
    pointer, column, count = items.rowptr.tolist(), items.col.tolist(), items.value.tolist()
    lists = {row: [column[begin:end], count[begin:end]] for row, (begin, end) in enumerate(zip(pointer, pointer[1:]))}
    settings = {'knn_k': 5, 'n_mm_layers': 1, 'n_ui_layers': 2, 'kl_weight': 1.0, 'neighbor_weight': 0.1,
                'item_graph_dict_file': 'items.npy', 'cf_model': 'lightgcn'}
    with pair(checkout, 'damrs', 'DAMRS', settings, 'DAMRS', {'num_neighbors': 5, 'item_alignment': 0.1}, ('image', 'text'),
              {'items.npy': np.array(lists, dtype=object)}) as both:
        theirs, ours = both.theirs, both.ours
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item)}
        both.start(tables)
        graphs = {'image': (theirs.image_adj, ours.content_graphs['image']),
                  'text': (theirs.text_adj, ours.content_graphs['text']),
                  'behavior': (theirs.session_adj, ours.behavior_graph)}
        return [*(Agreement(f'{name} item graph', their.to_dense(), _dense(our)) for name, (their, our) in graphs.items()),
                both.scores(), *both.losses(tables)]


def smore(checkout: Path) -> list[Agreement]:
    r"""SMORE."""
    settings = {'n_ui_layers': 3, 'n_layers': 1, 'reg_weight': 0.0, 'cl_loss': 0.1, 'image_knn_k': 4, 'text_knn_k': 5,
                'dropout_rate': 0.0, 'train_batch_size': 64}
    stand_in('torch_scatter', scatter_add=lambda x, index, dim=0, dim_size=None: x.new_zeros(dim_size).index_add(0, index, x))
    with pair(checkout, 'smore', 'SMORE', settings, 'SMORE',
              {'l2': 0.0, 'contrast_weight': 0.1, 'num_neighbors': {'image': 4, 'text': 5}}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        layers = {'fused gate': (theirs.gate_f[0], ours.fused_gate),
                  'fused preference': (theirs.gate_fusion_prefer[0], ours.fused_preference)}
        for name, projection, gate, preference, query in (
                ('image', theirs.image_trs, theirs.gate_v, theirs.gate_image_prefer, theirs.query_v),
                ('text', theirs.text_trs, theirs.gate_t, theirs.gate_text_prefer, theirs.query_t)):
            layers.update({f'{name} projection': (projection, ours.projections[name].linear),
                           f'{name} gate': (gate[0], ours.gates[name]),
                           f'{name} preference': (preference[0], ours.preferences[name]),
                           f'{name} query 1': (query[0], ours.queries[name][0]),
                           f'{name} query 2': (query[2], ours.queries[name][2])})
        tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                  'item table': (theirs.item_id_embedding.weight, ours.embedding.item), **layer_tables(layers)}
        both.start(tables)
        filters = {'image': (theirs.image_complex_weight, ours.filters['image']),
                   'text': (theirs.text_complex_weight, ours.filters['text']),
                   'fused': (theirs.fusion_complex_weight, ours.fused_filter)}
        for name, (their, our) in filters.items():
            copy_weights({f'{name} real parts': (their[0, :, 0], our.real),
                          f'{name} imaginary parts': (their[0, 1:-1, 1], our.imag)})
        return [both.scores(), *both.losses(tables, 'penalty off: theirs is of final rows')]


def pgl(checkout: Path) -> list[Agreement]:
    r"""PGL."""
    settings = {'mode': 'local', 'knn_k': 4, 'n_mm_layers': 1, 'n_ui_layers': 2, 'reg_weight': 0.1, 'mm_image_weight': 0.1,
                'dropout': 0.0}
    stand_in('sparsesvd', sparsesvd=None)  # for the global mode, which is not compared
    with pair(checkout, 'pgl', 'PGL', settings, 'PGL',
              {'num_neighbors': 4, 'contrast_weight': 0.1, 'dropout': 0.0,
               'modality_weights': {'image': 0.1, 'text': 0.9}}, ('image', 'text')) as both:
        theirs, ours = both.theirs, both.ours
        tables = {f'{name} users': (table.weight, ours.preferences[name])
                  for name, table in (('image', theirs.user_image), ('text', theirs.user_text))}
        tables.update(layer_tables({f'{name} projection': (layer, ours.projections[name].linear)
                                    for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))}))
        both.start(tables)
        found = [both.scores('whole graph')]
        theirs.train()
        _prune_equally(theirs, ours)
        return [*found, *both.losses(tables, 'same part of the interactions, without dropout')]


def mmgcf(checkout: Path) -> list[Agreement]:
    r"""MMGCF."""
    found = []
    for fusion in ('mean', 'sum', 'concat'):
        for weighting in ('equal', 'alpha', 'normalized'):
            with pair(checkout, 'mmgcf', 'MMGCF', {'n_ui_layers': 2, 'reg_weight': 0.1, 'fusion_mode': fusion,
                                                   'weighting': weighting, 'dropout': 0.0},
                      'MMGCF', {'l2': 0.1, 'ratio': 0.0, 'fusion': fusion, 'weighting': weighting}, ('image', 'text')) as both:
                theirs, ours = both.theirs, both.ours
                layers = {name: (layer, ours.projections[name].linear)
                          for name, layer in (('image', theirs.image_trs), ('text', theirs.text_trs))}
                if fusion == 'concat':
                    outer = theirs.id_mm_concat_layer if weighting == 'equal' else theirs.all_concat_layer
                    layers['item map'] = outer, ours.item_map
                    if weighting == 'equal':
                        layers['content map'] = theirs.mm_concat_layer, ours.content_map
                tables = {'user table': (theirs.user_embedding.weight, ours.embedding.user),
                          'item table': (theirs.item_id_embedding.weight, ours.embedding.item), **layer_tables(layers)}
                if weighting == 'alpha':
                    tables['share of IDs'] = theirs.mm_alpha, ours.alpha_logit
                both.start(tables)
                theirs.pre_epoch_processing()
                moved = {name: table for name, table in tables.items() if not name.endswith('bias')}
                note = f'{fusion}, {weighting}; biases left out, whose gradients cancel up to rounding'
                found += [both.scores(f'{fusion}, {weighting}'), *both.losses(moved, note)]
    return found


def _dense(graph: Adjacency) -> Tensor:
    edge_index, value = graph.to_edge_index()
    return torch.sparse_coo_tensor(edge_index, value, graph.size, is_coalesced=False).to_dense()


def _prune_equally(theirs: Any, ours: Recommender) -> None:
    r"""Gives both sides the same half of the interactions; theirs draws their places, ours a mask."""
    def draw(rate: Tensor, num_kept: int) -> Tensor:
        return torch.arange(rate.numel())[-num_kept:]

    with patch.object(torch, 'multinomial', draw):
        theirs.pre_epoch_processing()
    num_edges = ours.graph.num_edges
    mask = torch.zeros(num_edges, dtype=torch.bool)
    mask[draw(mask, int(num_edges * (1 - ours.interactions.ratio)))] = True
    ours.interactions.pruned = ours.interactions.subgraph(mask)
    if hasattr(theirs, 'masked_adj'):
        theirs.forward_adj = theirs.masked_adj


MODELS = {
    'ItemKNNCBF': item_knn_cbf, 'MFBPR': mf_bpr, 'LightGCN': light_gcn, 'VBPR': vbpr, 'LayerGCN': layer_gcn,
    'SELFCFED': selfcfed, 'MMGCN': mmgcn, 'GRCN': grcn, 'DualGNN': dualgnn, 'SLMRec': slmrec, 'BM3': bm3,
    'FREEDOM': freedom, 'MGCN': mgcn, 'LATTICE': lattice, 'DRAGON': dragon, 'MVGAE': mvgae, 'LGMRec': lgmrec,
    'DAMRS': damrs, 'SMORE': smore, 'PGL': pgl, 'MMGCF': mmgcf,
}
