r"""MIND, ComiRec-SA and REMI with BaM's selection and multi-interest loss against the program of
BaM's authors, in which item 0 is padding.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    Tables,
    copy_weights,
    foreign_code,
    loss_agreements,
    randomize,
)
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import SequenceBatch
from genrec_pyg.nn.models import MIND, REMI, ComiRecSA

REPOSITORY = 'snudatalab/BaM (research evaluation only)'

CHANNELS, NUM_ITEMS, NUM_USERS, SIZE, NUM_NEGATIVES, NUM_INTERESTS = 8, 40, 12, 6, 15, 4
#: What the public program computes where this package offers a choice.
RELEASED = {
    'hidden_channels': CHANNELS,
    'num_interests': NUM_INTERESTS,
    'history_length': SIZE,
    'num_negatives': NUM_NEGATIVES,
    'variant': 'released',
    'multi_loss': True,
}


def compare_mind(checkout: Path) -> list[Agreement]:
    r"""Interests, both losses and their gradients, for the same noise of the routing."""
    return _compare(
        checkout,
        'MIND',
        MIND,
        {'relu_layer': False},
        lambda theirs, ours: {
            'map': (theirs.capsule_network.linear.weight, ours.extractor.bilinear.weight)
        },
        0.0,
    )


def compare_comirec(checkout: Path) -> list[Agreement]:
    r"""Interests, both losses and their gradients."""
    return _compare(checkout, 'ComiRec', ComiRecSA, {}, _attention_tables, 0.0)


def compare_remi(checkout: Path) -> list[Agreement]:
    r"""The same with hard negatives, and the routing penalty over the whole window."""
    return _compare(
        checkout,
        'ComiRec',
        REMI,
        {},
        _attention_tables,
        0.5,
    )


def _attention_tables(theirs: torch.nn.Module, ours: torch.nn.Module) -> Tables:
    layer = ours.extractor
    return {
        'positions': (theirs.position_embedding, layer.position),
        'first map': (theirs.linear1[0].weight, layer.hidden.weight),
        'second map': (theirs.linear2.weight, layer.interest.weight),
    }


def _compare(
    checkout: Path, name: str, make, arguments: dict, tables, beta: float
) -> list[Agreement]:
    require_files(checkout, 'src/BasicModel.py', 'src/ComiRec.py', 'src/MIND.py', 'src/SSLoss.py')
    graph, batch = _toy()
    history = torch.where(batch.history < NUM_ITEMS, batch.history + 1, 0)
    target, mask = batch.target + 1, (batch.history < NUM_ITEMS).long()
    generator = torch.Generator().manual_seed(1)
    negatives = torch.stack(
        [torch.randperm(NUM_ITEMS, generator=generator)[:NUM_NEGATIVES] for _ in range(NUM_USERS)]
    )
    noise = torch.randn(NUM_INTERESTS, SIZE, generator=generator)
    found = []
    with foreign_code(checkout / 'src'):
        module = importlib.import_module(name)
        for selection in ('hard', 'p', 'l'):
            torch.manual_seed(0)
            theirs = getattr(module, name)(
                NUM_ITEMS,
                CHANNELS,
                NUM_USERS,
                interest_num=NUM_INTERESTS,
                seq_len=SIZE,
                selection=selection,
                **arguments,
            )
            theirs.set_device('cpu')
            theirs.set_sampler(NUM_NEGATIVES, beta, 'cpu')
            ours = make(graph, selection=selection, **RELEASED)
            ours.beta = beta
            randomize(theirs.parameters())
            shared = tables(theirs, ours)
            copy_weights(shared)
            with torch.no_grad():
                ours.items.weight.copy_(theirs.embeddings.weight[1:])
                for layer, other in (
                    ((theirs.l1, ours.selection.of_interest), (theirs.l2, ours.selection.of_target))
                    if selection == 'l'
                    else ()
                ):
                    copy_weights(
                        {'weight': (layer.weight, other.weight), 'bias': (layer.bias, other.bias)}
                    )
            draw = _Draw()
            with (
                patch('torch.randn', lambda *shape, **_: noise.expand(shape[-3:])),
                patch('torch.multinomial', draw),
                patch('torch.randn_like', lambda x: noise),
                patch.object(
                    theirs.sample_loss, 'get_noise', lambda size: negatives.unsqueeze(1) + 1
                ),
                patch.object(ours, 'draw_negatives', lambda target: negatives),
            ):
                interests, chosen, attention = theirs(history, target, mask)
                loss = theirs.calculate_sampled_loss(chosen, target, interests)
                own_interests, own_attention = ours.interests(batch.history, batch.length)
                terms = ours.ranking_terms(batch, own_interests)
            note = f"selection='{selection}'" + (f', beta={beta}' if beta else '')
            (gradient,) = torch.autograd.grad(loss, theirs.embeddings.weight, retain_graph=True)
            (own,) = torch.autograd.grad(sum(terms.values()), ours.items.weight, retain_graph=True)
            found += [
                Agreement(
                    f'interests, {selection}', interests.detach(), own_interests.detach(), note
                ),
                *loss_agreements(
                    loss, sum(terms.values()), shared, note, f'both losses, {selection}'
                ),
            ]
            if draw.shares:
                found.append(
                    Agreement(
                        f'shares of the interests, {selection}',
                        draw.shares[0],
                        draw.shares[1],
                        note,
                    )
                )
            if attention is not None:
                found.append(
                    Agreement(
                        f'attention, {selection}', attention.detach(), own_attention.detach(), note
                    )
                )
            found.append(
                Agreement(
                    f'gradient of both losses: item table, {selection}', gradient[1:], own, note
                )
            )
        if beta:
            from genrec_pyg.nn.sequence import routing_penalty

            found += loss_agreements(
                theirs.calculate_atten_loss(attention),
                routing_penalty(own_attention, CHANNELS),
                {},
                '',
                'routing penalty',
            )
    return found


class _Draw:
    r"""In the place of ``torch.multinomial``: the place of the median of every row, and what it was
    asked about.
    """

    def __init__(self):
        self.shares: list[Tensor] = []

    def __call__(self, share: Tensor, count: int, *_) -> Tensor:
        self.shares.append(share.detach())
        return (share.cumsum(dim=1) < 0.5).sum(dim=1, keepdim=True)


def _toy() -> tuple[TrainingGraph, SequenceBatch]:
    r"""A graph, and a batch of histories of all lengths whose targets are in none of them."""
    generator = torch.Generator().manual_seed(0)
    items = torch.stack(
        [torch.randperm(NUM_ITEMS, generator=generator)[: SIZE + 1] for _ in range(NUM_USERS)]
    )
    user = torch.arange(NUM_USERS)
    sequence = torch.stack([user.repeat_interleave(SIZE + 1), items.flatten()])
    edge_index = sequence[:, (sequence[0] * NUM_ITEMS + sequence[1]).argsort()]
    length = 1 + user % SIZE
    history = items[:, :SIZE].masked_fill(torch.arange(SIZE) >= length.unsqueeze(1), NUM_ITEMS)
    graph = TrainingGraph(NUM_USERS, NUM_ITEMS, edge_index, {}, sequence)
    return graph, SequenceBatch(user, history, length, items[:, SIZE])


MODELS = {'MIND': compare_mind, 'ComiRecSA': compare_comirec, 'REMI': compare_remi}
