r"""GUME against the code of its authors, whose loaders and base classes are those of the MMRec
toolbox.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.foreign import require_files, stand_in
from benchmarks.parity.comparison import (
    Agreement,
    layer_tables,
    loss_agreements,
    pair_agreements,
    randomize,
)
from benchmarks.parity.mmrec_pair import Pair, dense_graph, pair

REPOSITORY = 'NanGongNingYi/GUME (no license)'

#: Weights of the terms, more than the published ones, so that none is lost beside another.
THEIRS = {
    'bm_loss': 0.3,
    'um_loss': 0.4,
    'vt_loss': 0.5,
    'reg_weight_1': 0.1,
    'reg_weight_2': 0.2,
    'bm_temp': 0.4,
    'um_temp': 0.3,
    'n_ui_layers': 3,
    'n_layers': 2,
    'knn_k': 10,
    'train_batch_size': 64,
}
OURS = {
    'contrast_weight': 0.3,
    'user_weight': 0.4,
    'align_weight': 0.5,
    'l2': 0.1,
    'interest_l2': 0.2,
    'temperature': 0.4,
    'user_temperature': 0.3,
    'num_layers': 3,
    'num_item_layers': 2,
    'num_neighbors': 10,
}


def compare_gume(checkout: Path) -> list[Agreement]:
    r"""Graphs, final rows, scores, and the sum of all terms with its gradients."""
    require_files(checkout, 'src/models/gume.py', 'src/common/abstract_recommender.py')
    stand_in('torch_scatter', scatter_add=_scatter_add)
    stand_in('matplotlib')  # imported and not used, like the next
    stand_in('matplotlib.pyplot')
    # The folder of features is sought below the working folder; NumPy 1.24 removed its name of int.
    with (
        patch.object(os, 'getcwd', str),
        patch.object(np, 'int', int, create=True),
        pair(
            checkout,
            'gume',
            'GUME',
            THEIRS,
            'GUME',
            OURS,
            ('image', 'text'),
            shift=2.0,
            arguments=(None,),
        ) as both,
    ):  # the local time, which names a log
        return _compare(both)


def _compare(both: Pair) -> list[Agreement]:
    theirs, ours = both.theirs.double(), both.ours.double()
    for name in ('R', 'norm_adj', 'image_original_adj', 'text_original_adj'):
        setattr(theirs, name, getattr(theirs, name).double())
    encoder = ours.encoder
    layers = {
        'attention key': (theirs.separate_coarse[0], encoder.attention.key),
        'attention query': (theirs.separate_coarse[2], encoder.attention.query),
    }
    for name, own in encoder.encoders.items():
        behavior = getattr(theirs, f'{name}_behavior')[0]
        layers |= {
            f'{name} projection': (getattr(theirs, f'{name}_reduce_dim'), own.linear),
            f'{name} gate': (getattr(theirs, f'{name}_trans_dim')[0], encoder.gates[name].linear),
            f'{name} gate of behavior': (behavior, encoder.specific_gates[name].linear),
        }
    tables = {
        'user table': (theirs.user_embedding.weight, encoder.user_embedding),
        'item table': (theirs.item_id_embedding.weight, encoder.item_embedding),
        **layer_tables(layers),
    }
    both.start(tables)
    interests = theirs.extended_image_user.weight, theirs.extended_text_user.weight
    randomize(interests, seed=1)
    randomize(interests[1:], seed=2)
    with torch.no_grad():
        ours.interest.copy_(sum(interests) / 2)
    positive = 'similarities are positive; theirs makes edges of negative ones, ours does not'
    found = [
        Agreement(
            'interaction graph',
            theirs.norm_adj.to_dense(),
            dense_graph(encoder.adjacency),
            positive,
        ),
        *(
            Agreement(
                f'{name}: item graph',
                getattr(theirs, f'{name}_original_adj').to_dense(),
                dense_graph(graph),
            )
            for name, graph in encoder.item_graphs.items()
        ),
        *pair_agreements(
            theirs(theirs.norm_adj).split([theirs.n_users, theirs.n_items]), ours.embed()
        ),
        both.scores(),
    ]
    with patch.object(torch, 'rand_like', _Draws(4)):
        loss = theirs.calculate_loss(torch.stack(both.batch))
        own = sum(ours.loss(both.batch).values())
    gradients = torch.autograd.grad(loss, interests, retain_graph=True)
    (mean,) = torch.autograd.grad(own, ours.interest, retain_graph=True)
    found += loss_agreements(loss, own, tables, 'the same four draws of noise')
    note = 'theirs has a table per modality, of which only the mean enters the loss'
    return [
        *found,
        *(
            Agreement(f'gradient of the loss: interests, {name}', gradient, mean / 2, note)
            for name, gradient in zip(encoder.encoders, gradients)
        ),
    ]


class _Draws:
    r"""In the place of ``torch.rand_like``: a number of uniform draws in turn, given by the values
    of a row, so that a row is moved alike wherever it stands.
    """

    def __init__(self, number: int):
        self._number, self._count = number, 0

    def __call__(self, rows: Tensor, **_: Any) -> Tensor:
        turn = self._count % self._number
        self._count += 1
        return (7 * rows.detach() + turn).sin().abs()


def _scatter_add(rows: Tensor, index: Tensor, dim: int = 0, dim_size: Any = None) -> Tensor:
    return rows.new_zeros(dim_size).index_add(dim, index, rows)


MODELS = {'GUME': compare_gume}
