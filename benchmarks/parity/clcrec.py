r"""CLCRec against the code of its authors, on the toy graph without the training interactions of
its last items.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch_geometric.utils

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    foreign_code,
    layer_tables,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.models import CLCRec
from genrec_pyg.nn.models.multimodal.clcrec import Candidates

REPOSITORY = 'weiyinwei/CLCRec (no license)'

CHANNELS, NUM_COLD, NUM_NEGATIVES = 8, 3, 4
WEIGHTS = {'l2': 0.1, 'temperature': 0.5, 'content_weight': 0.3}


def compare_clcrec(checkout: Path) -> list[Agreement]:
    r"""Embeddings of warm and cold items, and both losses with gradients for the same negatives and
    replaced entries.
    """
    require_files(checkout, 'model_CLCRec.py')
    # A function that torch_geometric has removed; it averages word vectors, which no data here
    # have.
    with foreign_code(checkout), patch.object(torch_geometric.utils, 'scatter_', None, create=True):
        graph = training_graph(toy_graph(('image', 'audio', 'text')))
        num_warm = graph.num_items - NUM_COLD
        graph = replace(graph, edge_index=graph.edge_index[:, graph.edge_index[1] < num_warm])
        batch = toy_batch(graph)
        ours = CLCRec(
            graph, hidden_channels=CHANNELS, num_negatives=NUM_NEGATIVES, replace=0.5, **WEIGHTS
        )
        theirs = importlib.import_module('model_CLCRec').CLCRec(
            graph.num_users,
            graph.num_items,
            num_warm,
            graph.edge_index,
            WEIGHTS['l2'],
            CHANNELS,
            *(modality.x for modality in graph.modalities.values()),
            WEIGHTS['temperature'],
            NUM_NEGATIVES,
            WEIGHTS['content_weight'],
            False,
            0.5,
        )
        randomize(theirs.parameters())
        layers = layer_tables(
            {
                'encoder, first layer': (theirs.encoder_layer1, ours.encoder[0]),
                'encoder, second layer': (theirs.encoder_layer2, ours.encoder[2]),
            }
        )
        copy_weights(layers)
        with torch.no_grad():
            users, items = theirs.id_embedding.split([graph.num_users, graph.num_items])
            copy_weights(
                {
                    'user table': (users, ours.embedding.user),
                    'item table': (items, ours.embedding.item),
                }
            )

        generator = torch.Generator().manual_seed(0)
        size = batch.user.numel(), 1 + NUM_NEGATIVES
        negatives = torch.randint(num_warm, (size[0], NUM_NEGATIVES), generator=generator)
        lists = torch.cat([batch.pos.unsqueeze(1), negatives], dim=1)
        # the first half of it is replaced by content
        order = torch.randperm(lists.numel(), generator=generator)
        uniform = torch.empty(lists.numel()).index_copy(
            0, order, (torch.arange(lists.numel()) + 0.5) / lists.numel()
        )
        with patch('torch.randint', lambda high, shape: order[: shape[0]]):
            contrast, penalty = theirs(
                batch.user.unsqueeze(1).repeat(1, size[1]), graph.num_users + lists
            )
        with (
            patch.object(
                ours,
                'draw_negatives',
                lambda user: Candidates(negatives, torch.zeros_like(negatives).bool()),
            ),
            patch('torch.rand', lambda shape, device: uniform.view(shape)),
        ):
            terms = ours.loss(batch)
        note = 'same negatives and replaced entries; theirs draws these with repetition'
        content = theirs.contrastive_loss_1 * WEIGHTS['content_weight']
        total, own_total = contrast + WEIGHTS['l2'] * penalty, sum(terms.values())
        (gradient,) = torch.autograd.grad(total, theirs.id_embedding, retain_graph=True)
        own = torch.autograd.grad(
            own_total, (ours.embedding.user, ours.embedding.item), retain_graph=True
        )
        return [
            *pair_agreements(
                theirs.result.split([graph.num_users, graph.num_items]),
                ours.embed(),
                f'the last {NUM_COLD} items are cold',
            ),
            *loss_agreements(content, terms['item_content'], {}, note, 'item-content term'),
            *loss_agreements(contrast - content, terms['user_item'], {}, note, 'user-item term'),
            *loss_agreements(WEIGHTS['l2'] * penalty, terms['norm'], {}, '', 'norm'),
            *loss_agreements(total, own_total, layers),
            Agreement('gradient of the loss: tables', gradient, torch.cat(own)),
        ]


MODELS = {'CLCRec': compare_clcrec}
