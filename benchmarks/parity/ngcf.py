r"""NGCF against its torch port."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import scipy.sparse
import torch

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    fixed_dropout,
    foreign_code,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.nn.models import NGCF

REPOSITORY = 'huangtinglin/NGCF-PyTorch (no license)'

CHANNELS, WIDTHS, L2, DROPOUT = 8, (7, 6, 5), 0.1, 0.3


def compare_ngcf(checkout: Path) -> list[Agreement]:
    r"""The graph, embeddings and losses with gradients, with the dropout of the layers."""
    folder = checkout / 'NGCF'
    require_files(folder, 'NGCF.py', 'utility/load_data.py')
    with foreign_code(folder):
        ours = NGCF(
            toy_graph(),
            hidden_channels=CHANNELS,
            layer_channels=WIDTHS,
            l2=L2,
            dropout=DROPOUT,
            adj='rw_self',
        )
        ours.train()
        batch = toy_batch(ours.graph)
        data = importlib.import_module('utility.load_data').Data
        interactions = scipy.sparse.coo_array(
            (torch.ones(ours.graph.num_edges).numpy(), tuple(ours.graph.edge_index.numpy())),
            shape=(ours.num_users, ours.num_items),
        )
        _, graph, _ = data.create_adj_mat(
            SimpleNamespace(
                n_users=ours.num_users,
                n_items=ours.num_items,
                R=scipy.sparse.csr_matrix(interactions),
            )
        )
        theirs = importlib.import_module('NGCF').NGCF(
            ours.num_users,
            ours.num_items,
            graph,
            SimpleNamespace(
                device='cpu',
                embed_size=CHANNELS,
                batch_size=batch.user.numel(),
                node_dropout=[0.0],
                mess_dropout=[DROPOUT] * len(WIDTHS),
                layer_size=str(list(WIDTHS)),
                regs=f'[{L2}]',
            ),
        )
        randomize(theirs.parameters())
        weights = theirs.weight_dict
        rows = {
            'user table': (theirs.embedding_dict['user_emb'], ours.embedding.user),
            'item table': (theirs.embedding_dict['item_emb'], ours.embedding.item),
        }
        tables = dict(rows)
        for place, conv in enumerate(ours.convs):
            tables[f'layer {place + 1}, first weight'] = weights[f'W_gc_{place}'], conv.weight1
            tables[f'layer {place + 1}, second weight'] = weights[f'W_bi_{place}'], conv.weight2
        copy_weights(tables)
        with torch.no_grad():
            # theirs has two biases, of which only the sum is seen
            for place, conv in enumerate(ours.convs):
                conv.bias.copy_(weights[f'b_gc_{place}'] + weights[f'b_bi_{place}'])
        biases = {
            f'layer {place + 1}, bias': (weights[f'b_gc_{place}'], conv.bias)
            for place, conv in enumerate(ours.convs)
        }
        (row, col), value = ours.random_walk.to_edge_index()
        dense = torch.zeros(ours.random_walk.size).index_put((row, col), value)
        note = 'with dropout, which theirs never switches off; no interaction dropped'
        nodes = range(ours.num_users), range(ours.num_items), [0]
        with fixed_dropout():
            (bpr, _), (_, penalty) = (
                theirs.create_bpr_loss(*theirs(*(index.tolist() for index in batch)))[1:]
                for _ in range(2)
            )  # twice, as each is differentiated
            constant = L2 * 3 * len(WIDTHS) / 2
            return [
                Agreement('graph', torch.from_numpy(graph.toarray()).float(), dense),
                *pair_agreements(theirs(*map(list, nodes))[:2], ours.embed(), note),
                *loss_agreements(bpr, ours.loss(batch)['bpr'], {**tables, **biases}, note, 'BPR'),
                *loss_agreements(
                    penalty - constant,
                    ours.loss(batch)['l2'],
                    rows,
                    'theirs is of final rows, that of initial ones and a constant, taken out here',
                    'L2',
                ),
            ]


MODELS = {'NGCF': compare_ngcf}
