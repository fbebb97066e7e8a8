r"""MMHCL against the code of its authors, with two and with three modalities."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from scipy.sparse import coo_matrix

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    Tables,
    copy_weights,
    foreign_code,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from benchmarks.parity.mmrec_pair import dense_graph
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.models import MMHCL

REPOSITORY = 'Xu107/MMHCL (no license)'

CHANNELS, BATCH_SIZE = 8, 64
#: Weights of the terms, more than the published ones, so that none is lost beside another.
THEIRS = {
    'UI_layers': 2,
    'User_layers': 3,
    'Item_layers': 2,
    'topk': 5,
    'regs': 0.1,
    'user_loss_ratio': 0.3,
    'item_loss_ratio': 0.4,
    'temperature': 0.5,
    'embed_size': CHANNELS,
    'batch_size': BATCH_SIZE,
}
OURS = {
    'num_layers': 2,
    'num_user_layers': 3,
    'num_item_layers': 2,
    'num_neighbors': 5,
    'l2': 0.1,
    'user_weight': 0.3,
    'item_weight': 0.4,
    'temperature': 0.5,
    'hidden_channels': CHANNELS,
}
#: Modalities and their function of the item graph.
SETTINGS = {
    ('image', 'text'): 'get_I2I_Hypergraph_mul_mat',
    ('image', 'text', 'audio'): 'get_tiktok_I2I_Hypergraph_mul_mat',
}


def compare_mmhcl(checkout: Path) -> list[Agreement]:
    r"""Graphs, final rows, second order, and the sum of all terms with its gradients."""
    require_files(checkout, 'codes/main.py', 'codes/Models.py', 'codes/utility/load_data.py')
    flags = [f'--{name}={value}' for name, value in THEIRS.items()]
    # the loader reads a dataset when it is imported, and the program makes folders of logs
    unread = ModuleType('utility.batch_test')
    with (
        foreign_code(checkout / 'codes'),
        patch.object(sys, 'argv', ['main.py', *flags]),
        patch.dict(sys.modules, {'utility.batch_test': unread}),
    ):
        with patch.object(Path, 'mkdir'):
            main = importlib.import_module('main')
        return [
            found._replace(quantity=f'{len(modalities)} modalities: {found.quantity}')
            for modalities in SETTINGS
            for found in _compare(main, modalities)
        ]


def _compare(main: ModuleType, modalities: Sequence[str]) -> Iterator[Agreement]:
    graph = training_graph(toy_graph(modalities))
    batch = toy_batch(graph, BATCH_SIZE)
    graphs = _graphs(graph, SETTINGS[tuple(modalities)])
    theirs = main.MMHCL(graph.num_users, graph.num_items, CHANNELS).double()
    ours = MMHCL(graph, **OURS).double()
    tables: Tables = {
        'user table': (theirs.user_ui_embedding.weight, ours.embedding.user),
        'item table': (theirs.item_ui_embedding.weight, ours.embedding.item),
        'users in the hypergraph': (theirs.uu_embedding.weight, ours.second_order.user),
        'items in the hypergraph': (theirs.ii_embedding.weight, ours.second_order.item),
    }
    randomize(theirs_table for theirs_table, _ in tables.values())
    copy_weights(tables)
    eyes = (torch.eye(number, dtype=torch.float64) for number in (graph.num_users, graph.num_items))
    own_graphs = (
        dense_graph(ours.adjacency),
        *(own(eye) for own, eye in zip((ours.user_graph, ours.item_graph), eyes)),
    )
    for name, their, own in zip(('interaction', 'user', 'item'), graphs, own_graphs):
        yield Agreement(f'{name} graph', their.to_dense(), own)
    users, items, similar, shared = theirs(graphs[0], graphs[2], graphs[1])
    views = ours.views()
    yield from pair_agreements((users, items), (views.users, views.items))
    yield from (
        found._replace(quantity=f'{found.quantity}, second order')
        for found in pair_agreements((shared, similar), (views.shared_users, views.similar_items))
    )
    trainer = main.Trainer.__new__(main.Trainer)
    trainer.batch_size, trainer.decay = BATCH_SIZE, THEIRS['regs']
    ranking, penalty, _ = trainer.bpr_loss(users[batch.user], items[batch.pos], items[batch.neg])
    loss = (
        ranking
        + penalty
        + THEIRS['item_loss_ratio'] * theirs.batched_contrastive_loss(items, similar)
        + THEIRS['user_loss_ratio'] * theirs.batched_contrastive_loss(users, shared)
    )
    yield from loss_agreements(loss, sum(ours.loss(batch).values()), tables)


def _graphs(graph: TrainingGraph, item_graph: str) -> list[torch.Tensor]:
    r"""Their graphs of interactions, users and items, which they look for in files first."""
    data = importlib.import_module('utility.load_data')
    source = data.Data.__new__(data.Data)
    source.n_users, source.n_items = graph.num_users, graph.num_items
    ones = np.ones(graph.num_edges, dtype=np.float32)
    size = graph.num_users, graph.num_items
    source.R = coo_matrix((ones, tuple(graph.edge_index.numpy())), size).todok()
    features = {name: modality.x.numpy() for name, modality in graph.modalities.items()}

    def load(path: str) -> np.ndarray:
        return features[Path(path).stem.removesuffix('_feat')]

    with tempfile.TemporaryDirectory() as folder, patch.object(np, 'load', load):
        source.path = folder
        found = [source.get_UI_mat(), source.get_U2U_mat(), getattr(source, item_graph)()]
    return [matrix.double() for matrix in found]


MODELS = {'MMHCL': compare_mmhcl}
