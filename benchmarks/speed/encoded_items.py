r"""Times training and evaluation of SASRec over titles, encoder and all, beside the public program
of MoRec.

.. code-block:: console

    python -m benchmarks.speed.encoded_items --root DIR --checkout CHECKOUT --tokenizer FOLDER \
        --encoder tiny

Both sides train the same sizes on the same titles and users of amazon-beauty, from random weights,
with the same number of users per step and one thread, and take turns, step by step. Theirs encodes
every place of a batch at 30 tokens, padding too; ours each distinct item once, as long as it is.
Evaluation encodes all items and ranks them for some users. Memory is that of a process of its own
for each side. First losses are computed at equal weights on the same windows in
``benchmarks.parity.morec``; here both start from their own draws.
"""

from __future__ import annotations

import argparse
import html
import importlib
import json
import random
import statistics
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.flags import positive
from benchmarks.common.foreign import foreign_code, require_files
from benchmarks.common.machine import (
    folder_digest,
    machine_line,
    memory_bytes,
    prepare,
    thread_environment,
)
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import condense, interleaved_seconds
from genrec_pyg.encoders.text import POOLING
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.items import EncodedRows
from genrec_pyg.nn.items.content import Tokens
from genrec_pyg.nn.models import SASRec

#: Layers, width and heads of encoders of BERT's kind.
ENCODERS = {'tiny': (2, 128, 2), 'small': (4, 512, 8), 'base': (12, 768, 12)}
CHANNELS, HISTORY, LENGTH, LR, ENCODER_LR, DECAY = 512, 20, 30, 1e-4, 5e-5, 0.01
SIDES = ('ours', 'theirs')


class Bert(torch.nn.Module):
    r"""BERT of random weights, pooled by its first token."""

    revision = 'drawn'

    def __init__(self, size: str):
        super().__init__()
        self.bert, self.width = make_bert(size), ENCODERS[size][1]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return POOLING['cls'](self.bert(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


def make_bert(size: str) -> torch.nn.Module:
    r"""A BERT of random weights without its pooler."""
    transformers = importlib.import_module('transformers')
    layers, width, heads = ENCODERS[size]
    return transformers.BertModel(
        transformers.BertConfig(
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=4 * width,
        ),
        add_pooling_layer=False,
    )


class Data:
    r"""Titles as tokens, and sequences of users that have at least five items, cut as the paper
    does.

    Args:
        folder: Folder of amazon-beauty.
        tokenizer: Folder of BERT's tokenizer.
        users: Most users.
    """

    def __init__(self, folder: Path, tokenizer: Path, users: int):
        lines = (folder / 'sequential_data.txt').read_text().splitlines()
        raw = [list(map(int, line.split()))[1:][-(HISTORY + 3) :] for line in lines]
        raw = [items for items in raw if len(items) >= 5][:users]
        used = sorted({item for items in raw for item in items})
        place = {item: number for number, item in enumerate(used)}
        self.sequences = [[place[item] for item in items] for items in raw]
        titles = [''] * (max(used) + 1)
        for line in (folder / 'items_derived.tsv').read_text(encoding='utf-8').splitlines()[1:]:
            number, title, _ = line.split('\t')
            if int(number) < len(titles):
                titles[int(number)] = html.unescape(title).lower()
        transformers = importlib.import_module('transformers')
        found = transformers.AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)(
            [titles[item] for item in used],
            max_length=LENGTH,
            padding='max_length',
            truncation=True,
        )
        self.ids, self.mask = (torch.tensor(found[key]) for key in ('input_ids', 'attention_mask'))
        self.num_items = len(used)


def make_ours(data: Data, size: str, batch_size: int) -> dict[str, Callable[[], float]]:
    r"""A training step and an evaluation of this package."""
    train = [items[:-2] for items in data.sequences]
    edges = torch.tensor([(user, item) for user, items in enumerate(train) for item in items]).t()
    order = (edges[0] * data.num_items + edges[1]).unique()
    edge_index = torch.stack([order // data.num_items, order % data.num_items])
    graph = TrainingGraph(len(train), data.num_items, edge_index, {}, edges.contiguous())
    model = SASRec(graph, hidden_channels=CHANNELS, history_length=HISTORY, loss='bce')
    model.items = EncodedRows(
        Tokens(data.ids, data.mask.sum(dim=1)), Bert(size), data.num_items, CHANNELS
    )
    encoder = set(model.items.encoder_parameters())
    optimizer = torch.optim.AdamW(
        [
            {'params': list(encoder), 'lr': ENCODER_LR},
            {'params': [p for p in model.parameters() if p not in encoder]},
        ],
        lr=LR,
        weight_decay=DECAY,
    )
    batches = _forever(lambda: model.make_loader(batch_size, 'user'))

    def step() -> float:
        model.train()
        optimizer.zero_grad()
        loss = model.loss(next(batches))['bce']
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    window = torch.tensor(
        [(user, item) for user, items in enumerate(data.sequences) for item in items[:-1]]
    ).t()
    histories = Sequences.from_edges(window.contiguous(), len(data.sequences), data.num_items)
    target = torch.tensor([items[-1] for items in data.sequences])

    def evaluate() -> float:
        model.sequences = histories
        with model.cached_embeddings():
            scores = model.score(torch.arange(len(target)))
        scores[window[0], window[1]] = -torch.inf
        rank = (scores > scores.gather(1, target.unsqueeze(1))).sum(dim=1)
        return float((rank < 10).double().mean())

    return {'step': step, 'evaluation': evaluate}


def make_theirs(
    data: Data, size: str, batch_size: int, checkout: Path
) -> dict[str, Callable[[], float]]:
    r"""The same of the public program, with its own dataset, model and loops of the evaluation, but
    for its processes.
    """
    folder = checkout / 'bce_text' / 'main-end2end'
    require_files(folder, 'model/model.py', 'data_utils/dataset.py', 'data_utils/metrics.py')
    sys.path.insert(0, str(folder))
    settings = Namespace(
        max_seq_len=HISTORY,
        embedding_dim=CHANNELS,
        num_attention_heads=2,
        drop_rate=0.1,
        transformer_block=2,
        num_words_title=LENGTH,
        num_words_abstract=0,
        num_words_body=0,
        news_attributes=['title'],
        bert_model_load='bert',
        word_embedding_dim=ENCODERS[size][1],
    )
    model = importlib.import_module('model.model').Model(
        settings, data.num_items, True, make_bert(size)
    )
    dataset = importlib.import_module('data_utils.dataset')
    metrics = importlib.import_module('data_utils.metrics')
    content = np.zeros((data.num_items + 1, 2 * LENGTH), dtype=np.int64)
    content[1:] = torch.cat([data.ids, data.mask], dim=1).numpy()
    train = {user: [item + 1 for item in items[:-2]] for user, items in enumerate(data.sequences)}
    loader = torch.utils.data.DataLoader(
        dataset.BuildTrainDataset(train, content, data.num_items, HISTORY, True),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
    )
    encoder = [p for name, p in model.named_parameters() if 'bert_model' in name]
    rest = [p for name, p in model.named_parameters() if 'bert_model' not in name]
    optimizer = torch.optim.AdamW(
        [{'params': encoder, 'lr': ENCODER_LR}, {'params': rest}], lr=LR, weight_decay=DECAY
    )
    batches = _forever(lambda: loader)

    def step() -> float:
        model.train()
        items, mask = next(batches)
        optimizer.zero_grad()
        loss = model(items.view(-1, items.size(-1)), mask, 'cpu')
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    sequences = {
        user: [item + 1 for item in items[-(HISTORY + 1) :]]
        for user, items in enumerate(data.sequences)
    }

    @torch.no_grad()
    def evaluate() -> float:
        model.eval()  # their encoders have dropout
        rows = torch.cat(
            [model.bert_encoder(part) for part in torch.from_numpy(content).split(512)]
        )
        place = torch.arange(data.num_items) + 1.0
        found = []
        windows = dataset.BuildEvalDataset(sequences, rows, HISTORY, data.num_items)
        for user, inputs, mask, labels in torch.utils.data.DataLoader(windows, batch_size=512):
            scores = model.user_encoder(inputs, mask, 'cpu')[:, -1] @ rows.t()
            for one, label, score in zip(user, labels, scores):
                score[torch.tensor([item + 1 for item in data.sequences[int(one)][:-1]])] = -np.inf
                found.append(metrics.metrics_topK(score[1:], label, place, 10, 'cpu'))
        return float(torch.stack(found)[:, 0].mean())

    return {'step': step, 'evaluation': evaluate}


def _forever(make: Callable[[], Any]) -> Any:
    while True:
        yield from make()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    r"""Times both sides in turn, and reads the memory of each in a process of its own."""
    data = Data(args.root / 'amazon-beauty', args.tokenizer, args.users)
    with foreign_code():
        sides = {
            'ours': make_ours(data, args.encoder, args.batch_size),
            'theirs': make_theirs(data, args.encoder, args.batch_size, args.checkout),
        }
        losses: dict[str, list[float]] = {name: [] for name in sides}
        hits: dict[str, float] = {}
        found = {
            'step': condense(
                interleaved_seconds(
                    {
                        name: lambda name=name, one=one: losses[name].append(one['step']())
                        for name, one in sides.items()
                    },
                    args.steps,
                    warmup=1,
                )
            )
        }
        if not args.no_evaluation:
            found['evaluation'] = condense(
                interleaved_seconds(
                    {
                        name: lambda name=name, one=one: hits.update({name: one['evaluation']()})
                        for name, one in sides.items()
                    },
                    1,
                    warmup=0,
                )
            )
    memory = {}
    for side in SIDES:
        command = [
            sys.executable,
            '-m',
            'benchmarks.speed.encoded_items',
            *args.argv,
            '--only',
            side,
        ]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=thread_environment(1)
        )
        memory[side] = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        'seconds': found,
        'losses': {name: statistics.mean(values) for name, values in losses.items()},
        'hits': hits,
        'memory': memory,
        'users': len(data.sequences),
        'items': data.num_items,
        'tokens': float(data.mask.sum(dim=1).double().mean()),
    }


def memory_of(args: argparse.Namespace) -> dict[str, int]:
    r"""Memory of this process before the model is made, and at most while it trains a step."""
    data = Data(args.root / 'amazon-beauty', args.tokenizer, args.users)
    before = memory_bytes()['now']
    with foreign_code():
        made = (
            make_ours(data, args.encoder, args.batch_size)
            if args.only == 'ours'
            else make_theirs(data, args.encoder, args.batch_size, args.checkout)
        )
        for _ in range(2):
            made['step']()
    return {'before': before, 'peak': memory_bytes()['peak']}


def render(document: dict[str, Any]) -> str:
    r"""The report as Markdown."""
    rows = []
    for phase, sides in document['seconds'].items():
        rows.append(
            [
                phase,
                *(f'{sides[side]["median"]:.2f}' for side in SIDES),
                f'{sides["theirs"]["times_ours"]:.1f}',
                sides['ours']['count'],
            ]
        )
    loss = document['losses']
    peak = {
        side: document['memory'][side]['peak'] - document['memory'][side]['before']
        for side in SIDES
    }
    return f"""# Training over titles beside the public program of MoRec, {document['encoder']} BERT

{markdown_table(['phase', 'ours, seconds', 'theirs, seconds', 'theirs / ours', 'measured'], rows)}

SASRec of width {CHANNELS} over the titles of amazon-beauty ({document['tokens']:.1f} tokens on
average, at most {LENGTH}),
binary cross-entropy, {document['users']} users, {document['items']} items, {document['batch_size']}
users per step, medians
of what was measured in turn. Mean loss of these steps: ours {loss['ours']:.3f}, theirs
{loss['theirs']:.3f}; the same weights
and windows give the same loss (`agreement-morec.md`). Memory of two steps beyond the data: ours
{peak['ours'] / 2**20:.0f} MiB, theirs {peak['theirs'] / 2**20:.0f} MiB,
{peak['theirs'] / peak['ours']:.1f} times ours.
Python files of the checkout: digest {document['digest']}.

{machine_line(document['machine'])}
"""


def main(argv: Sequence[str] | None = None) -> None:
    r"""Measures and writes ``results/encoded-items-ENCODER``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', type=Path, required=True, help='folder that holds amazon-beauty')
    parser.add_argument(
        '--checkout', type=Path, required=True, help='checkout of westlake-repl/IDvs.MoRec'
    )
    parser.add_argument(
        '--tokenizer', type=Path, required=True, help='folder of the tokenizer of bert-base-uncased'
    )
    parser.add_argument('--encoder', choices=list(ENCODERS), default='tiny')
    parser.add_argument('--users', type=positive, default=2000)
    parser.add_argument('--batch_size', type=positive, default=32)
    parser.add_argument('--steps', type=positive, default=5)
    parser.add_argument('--no_evaluation', action='store_true')
    parser.add_argument('--only', choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument('--output', type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    args.argv = list(sys.argv[1:] if argv is None else argv)
    description = prepare(1)
    random.seed(0)
    if args.only:
        sys.stdout.write('\n' + json.dumps(memory_of(args)) + '\n')
        return
    document = {
        **measure(args),
        'encoder': args.encoder,
        'batch_size': args.batch_size,
        'machine': description,
        'digest': folder_digest(args.checkout, '*.py'),
    }
    write_report(args.output / f'encoded-items-{args.encoder}', document, render(document))


if __name__ == '__main__':
    main()
