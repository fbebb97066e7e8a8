r"""Item sides of MoRec against its program: a tiny BERT, its projections, fusions and losses at
equal weights.

Theirs reads a row of 60 numbers per item, 30 ids and 30 marks, and encodes every place of a batch,
padding too; ours encodes distinct items. Tokens are drawn, so that no tokenizer takes part.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.foreign import require_files
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    foreign_code,
    layer_tables,
    loss_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from benchmarks.parity.idrec import (
    CHANNELS,
    NUM_ITEMS,
    REPOSITORY,
    Windows,
    make_sasrec,
    sasrec_settings,
    toy_windows,
    user_tables,
)
from genrec_pyg.encoders.text import POOLING
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.items import EncodedRows, FeatureRows, FusedRows, ItemTable
from genrec_pyg.nn.items.content import Tokens
from genrec_pyg.nn.models import DSSM

__all__ = ['MODELS', 'REPOSITORY']

WIDTH, VOCABULARY, LENGTH = 16, 50, 30


class Bert(torch.nn.Module):
    r"""A tiny BERT with a pooling, in the form that :class:`~genrec_pyg.nn.items.EncodedRows`
    takes.
    """

    width, revision = WIDTH, 'drawn'

    def __init__(self, pooling: str = 'cls'):
        super().__init__()
        transformers = importlib.import_module('transformers')
        config = transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.pooling = POOLING[pooling]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.pooling(self.bert(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def reset_parameters(self) -> None:
        r"""Leaves the weights as they are."""

    def read(self, values: Sequence[Any]) -> Tokens:
        r"""Takes no text."""
        raise TypeError('tokens are drawn')


def toy_tokens(num_items: int) -> tuple[Tokens, Tensor]:
    r"""Drawn tokens of items of all lengths, ours and theirs ``[I + 1, 60]`` with padding in
    front.
    """
    generator = torch.Generator().manual_seed(1)
    length = 2 + torch.arange(num_items) % (LENGTH - 1)
    real = torch.arange(LENGTH) < length.unsqueeze(1)
    ids = torch.randint(1, VOCABULARY, (num_items, LENGTH), generator=generator) * real
    rows = torch.cat([ids, real.long()], dim=1)
    return Tokens(ids, length), torch.cat([torch.zeros(1, 2 * LENGTH, dtype=torch.long), rows])


def text_settings(**others: Any) -> Namespace:
    r"""Settings of their model with titles."""
    return Namespace(
        num_words_title=LENGTH,
        num_words_abstract=0,
        num_words_body=0,
        news_attributes=['title'],
        word_embedding_dim=WIDTH,
        **{'bert_model_load': 'bert', **sasrec_settings(), **others},
    )


def side_of(
    theirs: torch.nn.Module, num_items: int, tokens: Tokens, pooling: str = 'cls'
) -> EncodedRows:
    r"""Our item side with the weights of their text encoder, in several chunks that backward
    computes again.
    """
    side = EncodedRows(tokens, Bert(pooling), num_items, CHANNELS, chunk_size=7, recompute=True).to(
        theirs.fc.weight.dtype
    )
    side.network.bert.load_state_dict(theirs.bert_model.state_dict())
    side.projection.load_state_dict(theirs.fc.state_dict())
    return side


def bert_tables(theirs: torch.nn.Module, ours: EncodedRows) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Some tensors of every kind in the encoder, and the projection."""
    own = dict(ours.network.bert.named_parameters())
    chosen = [
        name
        for name in own
        if any(
            part in name
            for part in (
                'word_embeddings',
                'LayerNorm.weight',
                'query.weight',
                'intermediate.dense',
                'output.dense.bias',
            )
        )
    ]
    return {
        **{
            f'encoder, {name}': (dict(theirs.bert_model.named_parameters())[name], own[name])
            for name in chosen
        },
        **layer_tables({'projection': (theirs.fc, ours.projection)}),
    }


def compare_encoded(checkout: Path) -> list[Agreement]:
    r"""Rows of items by the first token and by the mean of tokens."""
    folder = checkout / 'bce_text' / 'main-end2end'
    require_files(folder, 'model/encoders.py')
    tokens, theirs_tokens = toy_tokens(NUM_ITEMS)
    found = []
    with foreign_code(folder):
        module = importlib.import_module('model.encoders')
        for name, pooling in (('Text_Encoder', 'cls'), ('Text_Encoder_mean', 'mean')):
            theirs = getattr(module, name)(Bert().bert, CHANNELS, WIDTH)
            randomize(theirs.parameters())
            ours = side_of(theirs, NUM_ITEMS, tokens, pooling)
            with torch.no_grad():
                found.append(
                    Agreement(f'rows, pooling {pooling!r}', theirs(theirs_tokens[1:]), ours())
                )
    return found


def compare_features(checkout: Path) -> list[Agreement]:
    r"""Rows of frozen features without and with layers."""
    folder = checkout / 'bce_text' / 'main-2stage(SASRec)'
    require_files(folder, 'model/encoders.py')
    graph = training_graph(toy_graph(('text',)))
    x = graph.modalities['text'].x
    found = []
    with foreign_code(folder):
        module = importlib.import_module('model.encoders')
        for layers in (0, 2):
            theirs = module.MLP_Layers(x.size(1), CHANNELS, [CHANNELS] * (layers + 1), 0.0)
            ours = FeatureRows(graph, CHANNELS, layers, 0.0)
            randomize(theirs.parameters())
            pairs = zip(
                [layer for layer in theirs.mlp_layers if isinstance(layer, torch.nn.Linear)],
                [layer for layer in ours.layers if isinstance(layer, torch.nn.Linear)],
            )
            copy_weights(
                layer_tables(
                    {
                        'projection': (theirs.fc, ours.projections['text']),
                        **{f'layer {number}': pair for number, pair in enumerate(pairs, 1)},
                    }
                )
            )
            with torch.no_grad():
                found.append(Agreement(f'rows, {layers} layers', theirs(x), ours()))
    return found


def compare_fused(checkout: Path) -> list[Agreement]:
    r"""Rows of ids and content together."""
    folder = checkout / 'bce_text' / 'id_plus_mo-end2end'
    require_files(folder, 'model/encoders.py')
    graph = training_graph(toy_graph(('text',)))
    found = []
    with foreign_code(folder):
        module = importlib.import_module('model.encoders')
        for fusion, count in (('add', 0), ('concat', 1), ('concat3', 3)):
            theirs = module.CAT([2 * CHANNELS, *[CHANNELS] * count], 0.0) if count else module.ADD()
            ours = FusedRows(
                ItemTable(graph.num_items, CHANNELS, 1.0),
                FeatureRows(graph, CHANNELS),
                fusion,
                dropout=0.0,
            )
            randomize([*theirs.parameters(), *ours.content.parameters()])
            pairs = zip(
                *(
                    [layer for layer in side.modules() if isinstance(layer, torch.nn.Linear)]
                    for side in (theirs, ours.layers)
                )
            )
            copy_weights(
                layer_tables({f'layer {number}': pair for number, pair in enumerate(pairs, 1)})
            )
            with torch.no_grad():
                found.append(
                    Agreement(f'rows, {fusion}', theirs(ours.table(), ours.content()), ours())
                )
    return found


def compare_sasrec_text(checkout: Path) -> list[Agreement]:
    r"""Binary cross-entropy of the whole model with titles, and its gradients; theirs encodes
    padding, which nothing reads.
    """
    folder = checkout / 'bce_text' / 'main-end2end'
    require_files(folder, 'model/model.py', 'model/encoders.py', 'model/modules.py')
    tokens, rows = toy_tokens(NUM_ITEMS)
    windows = toy_windows()
    with foreign_code(folder):
        theirs = importlib.import_module('model.model').Model(
            text_settings(), NUM_ITEMS, True, Bert().bert
        )
        ours, tables = _text_model(theirs, windows, tokens, 'bce')
        sample = rows[torch.stack([windows.padded, windows.beside], dim=2).flatten()]
        loss, own = theirs(sample, windows.mask, 'cpu'), ours.loss(windows.batch)['bce']
        return loss_agreements(
            loss,
            own,
            tables,
            'dropout 0; ours encodes distinct items, in chunks, again in backward',
        )


def compare_sasrec_inbatch(checkout: Path) -> list[Agreement]:
    r"""In-batch loss, corrected for popularity, by ids and by titles, and gradients."""
    folder = checkout / 'inbatch_sasrec_e2e_text'
    require_files(folder, 'model/model.py', 'model/encoders.py', 'model/modules.py')
    tokens, rows = toy_tokens(NUM_ITEMS)
    windows = toy_windows()
    found = []
    with foreign_code(folder):
        module = importlib.import_module('model.model')
        for use_titles in (False, True):
            ours = make_sasrec(windows.graph, loss='inbatch').double()
            popularity = [1.0, *ours.log_popularity.exp().tolist()]
            theirs = module.Model(
                text_settings(),
                NUM_ITEMS,
                use_titles,
                Bert().bert if use_titles else None,
                popularity,
            )
            if use_titles:
                ours, tables = _text_model(theirs, windows, tokens, 'inbatch')
            else:
                randomize(theirs.double().parameters())
                tables = user_tables(theirs, ours)
                copy_weights(tables)
                with torch.no_grad():
                    ours.items.weight.copy_(theirs.id_embedding.weight[1:])
            item = windows.padded.flatten()
            loss = theirs(item, rows[item] if use_titles else item, windows.mask, 'cpu')
            own = ours.loss(windows.batch)['inbatch']
            found += loss_agreements(
                loss,
                own,
                tables,
                'dropout 0; their popularity is float32',
                f'loss by {"titles" if use_titles else "ids"}',
            )
    return found


def compare_dssm_text(checkout: Path) -> list[Agreement]:
    r"""Binary cross-entropy of users and titles, and gradients."""
    folder = checkout / 'bce_text' / 'main-end2end(DSSM)'
    require_files(folder, 'model/model.py', 'model/encoders.py')
    graph = training_graph(toy_graph(()))
    batch = toy_batch(graph)
    tokens, rows = toy_tokens(graph.num_items)
    with foreign_code(folder):
        settings = text_settings(dnn_layers=0, neg_num=1)
        theirs = importlib.import_module('model.model').Model(
            settings, graph.num_users, graph.num_items, True, Bert().bert
        )
        ours = DSSM(graph, hidden_channels=CHANNELS).double()
        randomize(theirs.double().parameters())
        encoder = theirs.bert_encoder.text_encoders['title']
        ours.items = side_of(encoder, graph.num_items, tokens)
        with torch.no_grad():
            ours.user.copy_(theirs.user_embedding.weight[1:])
        items = torch.stack([batch.pos, batch.neg], dim=1) + 1
        label = torch.tensor([1.0, 0.0]).repeat(items.size(0), 1)
        loss, own = theirs(batch.user + 1, rows[items.flatten()], label), ours.loss(batch)['bce']
        return loss_agreements(loss, own, bert_tables(encoder, ours.items), '0 layers')


def _text_model(
    theirs: torch.nn.Module, windows: Windows, tokens: Tokens, loss: str
) -> tuple[Any, dict]:
    r"""Our model with the weights of theirs, and the tables of both."""
    graph: TrainingGraph = windows.graph
    randomize(theirs.double().parameters())
    ours = make_sasrec(graph, loss=loss).double()
    tables = user_tables(theirs, ours)
    copy_weights(tables)
    encoder = theirs.bert_encoder.text_encoders['title']
    ours.items = side_of(encoder, NUM_ITEMS, tokens)
    return ours, {**tables, **bert_tables(encoder, ours.items)}


#: One entry per folder of the checkout, whose modules have the same names.
MODELS = {
    'SASRec, encoded items': compare_encoded,
    'SASRec, frozen items': compare_features,
    'SASRec, ids and content': compare_fused,
    'SASRec, titles': compare_sasrec_text,
    'SASRec, in-batch loss': compare_sasrec_inbatch,
    'DSSM, titles': compare_dssm_text,
}
