r"""SASRec and DSSM over ids against the program of IDRec and MoRec, whose item and user 0 is
padding.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    Tables,
    copy_weights,
    foreign_code,
    layer_tables,
    loss_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.graph import Content, TrainingGraph, training_graph
from genrec_pyg.loader import WindowBatch
from genrec_pyg.nn.models import DSSM, SASRec

REPOSITORY = 'westlake-repl/IDvs.MoRec (Apache-2.0)'

CHANNELS, NUM_ITEMS, NUM_USERS, SIZE, LAYERS, HEADS = 8, 40, 12, 6, 2, 2


class Windows(NamedTuple):
    r"""The same windows of all lengths for both sides; theirs stand at the right of their rows, and
    a negative stands beside the input before its target.

    Args:
        batch: Ours.
        graph: Training graph of these windows.
        padded: Their items ``[B, L + 1]``, from 1.
        beside: Their negatives ``[B, L + 1]``.
        mask: Their inputs ``[B, L]``, 1 or 0.
    """

    batch: WindowBatch
    graph: TrainingGraph
    padded: Tensor
    beside: Tensor
    mask: Tensor


def toy_windows(contents: dict[str, Content] | None = None) -> Windows:
    r"""Draws windows; ``contents`` go into the graph."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [torch.randperm(NUM_ITEMS, generator=generator)[: 2 * SIZE + 1] for _ in range(NUM_USERS)]
    )
    length = 2 + torch.arange(NUM_USERS) % SIZE
    real = torch.arange(SIZE + 1) < length.unsqueeze(1)
    item = drawn[:, : SIZE + 1].masked_fill(~real, NUM_ITEMS)
    negative = drawn[:, SIZE + 1 :].masked_fill(~real[:, 1:], NUM_ITEMS)
    place = torch.arange(SIZE + 1) - (SIZE + 1 - length).unsqueeze(1)
    padded = torch.where(place >= 0, item.gather(1, place.clamp(min=0)) + 1, 0)
    beside = torch.where(
        (place >= 0) & (place < (length - 1).unsqueeze(1)),
        negative.gather(1, place.clamp(0, SIZE - 1)) + 1,
        0,
    )
    mask = (place[:, :-1] >= 0).float()
    user = torch.arange(NUM_USERS)
    sequence = torch.stack([user.repeat_interleave(length), item[real]])
    edge_index = sequence[:, (sequence[0] * NUM_ITEMS + sequence[1]).argsort()]
    graph = TrainingGraph(NUM_USERS, NUM_ITEMS, edge_index, {}, sequence, contents or {})
    return Windows(
        WindowBatch(user, item, length, negative.unsqueeze(2)), graph, padded, beside, mask
    )


def sasrec_settings() -> dict[str, Any]:
    r"""Settings of their model."""
    return dict(
        max_seq_len=SIZE,
        embedding_dim=CHANNELS,
        num_attention_heads=HEADS,
        drop_rate=0.0,
        transformer_block=LAYERS,
    )


def make_sasrec(graph: TrainingGraph, **arguments: Any) -> SASRec:
    r"""Our model of the same sizes."""
    return SASRec(
        graph,
        hidden_channels=CHANNELS,
        history_length=SIZE,
        num_layers=LAYERS,
        num_heads=HEADS,
        dropout=0.0,
        **arguments,
    )


def user_tables(theirs: torch.nn.Module, ours: SASRec) -> Tables:
    r"""Tables of the transformer; the maps of queries, keys and values, one table with us, are
    copied at once.
    """
    encoder = theirs.user_encoder.transformer_encoder
    tables = {
        'positions': (encoder.position_embedding.weight, ours.encoder.position),
        **_norm_tables('input', encoder.layer_norm, ours.encoder.norm),
    }
    for number, (block, own) in enumerate(
        zip(encoder.transformer_blocks, ours.encoder.blocks), start=1
    ):
        attention, feed = block.multi_head_attention, block.feed_forward
        with torch.no_grad():
            own.qkv.weight.copy_(
                torch.cat([attention.w_Q.weight, attention.w_K.weight, attention.w_V.weight])
            )
        tables.update(
            layer_tables(
                {
                    f'block {number}, expand': (feed.w_1, own.expand),
                    f'block {number}, contract': (feed.w_2, own.contract),
                }
            )
        )
        tables[f'block {number}, output of attention'] = attention.fc.weight, own.out.weight
        tables.update(
            _norm_tables(f'block {number}, attention', attention.layer_norm, own.attention_norm)
        )
        tables.update(_norm_tables(f'block {number}, output', feed.layer_norm, own.output_norm))
    return tables


def compare_sasrec(checkout: Path) -> list[Agreement]:
    r"""Output at every real position, loss and gradients; windows of all lengths, dropout 0."""
    folder = checkout / 'bce_text' / 'main-end2end'
    require_files(folder, 'model/model.py', 'model/encoders.py', 'model/modules.py')
    windows = toy_windows()
    batch, padded, mask = windows.batch, windows.padded, windows.mask
    with foreign_code(folder):
        theirs = importlib.import_module('model.model').Model(
            Namespace(**sasrec_settings()), NUM_ITEMS, False, None
        )
        ours = make_sasrec(windows.graph)
        randomize(theirs.parameters())
        tables = user_tables(theirs, ours)
        copy_weights(tables)
        with torch.no_grad():
            ours.items.weight.copy_(theirs.id_embedding.weight[1:])
            # random there: an input of padded positions, which nothing real reads
            theirs.id_embedding.weight[0] = 0
        outputs = theirs.user_encoder(theirs.id_embedding(padded[:, :-1]), mask, 'cpu')
        own_outputs = ours.encode(ours.items.rows(batch.item[:, :-1]), batch.length - 1)
        real = batch.item[:, 1:] < NUM_ITEMS
        loss = theirs(torch.stack([padded, windows.beside], dim=2).flatten(), mask, 'cpu')
        own_loss = ours.loss(batch)['bce']
        (gradient,) = torch.autograd.grad(loss, theirs.id_embedding.weight, retain_graph=True)
        (own_gradient,) = torch.autograd.grad(own_loss, ours.items.weight, retain_graph=True)
        return [
            Agreement(
                'outputs',
                outputs[mask > 0].detach(),
                own_outputs[real].detach(),
                'theirs are padded on the left',
            ),
            *loss_agreements(loss, own_loss, tables, 'dropout 0'),
            Agreement('gradient of the loss: item table', gradient[1:], own_gradient),
        ]


def compare_dssm(checkout: Path) -> list[Agreement]:
    r"""Loss and gradients with and without towers."""
    folder = checkout / 'bce_text' / 'main-end2end(DSSM)'
    require_files(folder, 'model/model.py', 'model/encoders.py')
    graph = training_graph(toy_graph(()))
    batch = toy_batch(graph)
    found = []
    with foreign_code(folder):
        for layers in (0, 2):
            settings = Namespace(
                embedding_dim=CHANNELS, dnn_layers=layers, drop_rate=0.0, neg_num=1
            )
            theirs = importlib.import_module('model.model').Model(
                settings, graph.num_users, graph.num_items, False, None
            )
            ours = DSSM(graph, hidden_channels=CHANNELS, num_layers=layers, dropout=0.0)
            randomize(theirs.parameters())
            towers = (
                ('user', theirs.user_encoder, ours.user_tower),
                ('item', theirs.id_encoder, ours.item_tower),
            )
            tables = {}
            for name, tower, own in towers:
                pairs = zip(
                    *(
                        [layer for layer in side.modules() if isinstance(layer, torch.nn.Linear)]
                        for side in (tower, own)
                    )
                )
                tables.update(
                    layer_tables(
                        {
                            f'{name} tower, layer {number}': pair
                            for number, pair in enumerate(pairs, 1)
                        }
                    )
                )
            copy_weights(tables)
            with torch.no_grad():
                ours.user.copy_(theirs.user_embedding.weight[1:])
                ours.items.weight.copy_(theirs.id_embedding.weight[1:])
            items = torch.stack([batch.pos, batch.neg], dim=1) + 1
            label = torch.tensor([1.0, 0.0]).repeat(items.size(0), 1)
            loss, own_loss = theirs(batch.user + 1, items.flatten(), label), ours.loss(batch)['bce']
            sides = (
                (theirs.user_embedding.weight, theirs.id_embedding.weight),
                (ours.user, ours.items.weight),
            )
            gradients = torch.autograd.grad(loss, sides[0], retain_graph=True)
            own = torch.autograd.grad(own_loss, sides[1], retain_graph=True)
            found += loss_agreements(
                loss, own_loss, tables, f'{layers} layers', f'loss, {layers} layers'
            )
            found += [
                Agreement(f'gradient of the loss: {name} table, {layers} layers', a[1:], b)
                for name, a, b in zip(('user', 'item'), gradients, own)
            ]
    return found


def _norm_tables(name: str, theirs: torch.nn.LayerNorm, ours: torch.nn.LayerNorm) -> dict:
    return {
        f'{name}, weight of the norm': (theirs.weight, ours.weight),
        f'{name}, bias of the norm': (theirs.bias, ours.bias),
    }


MODELS = {'SASRec': compare_sasrec, 'DSSM': compare_dssm}
