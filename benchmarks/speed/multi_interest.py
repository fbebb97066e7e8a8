r"""Times training steps of MIND, ComiRec-SA and REMI with BaM beside the program of BaM's authors
(https://github.com/snudatalab/BaM), which holds the code of all three.

.. code-block:: console

    python -m benchmarks.speed.multi_interest --root DIR --dataset ml-100k --checkout FOLDER

A step draws a batch of users with a history each, computes the loss and its gradient, and takes a
step of Adam, as the training loop of the program does. Same interactions, width, interests, history
length, negatives and batch; one thread, one process, in turns. Reported are processor seconds,
which do not move when other programs use the machine, and the peak of what tensors hold within a
step. Equal losses and gradients are the business of :mod:`benchmarks.parity.bam`.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_geometric.data import HeteroData

from benchmarks.common.flags import positive
from benchmarks.common.foreign import foreign_code, require_files
from benchmarks.common.machine import machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import condense
from genrec_pyg.config import parse_train_arguments
from genrec_pyg.config.build import make_data
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender

BATCH, CHANNELS, INTERESTS, BETA, ROUTING = 128, 64, 4, 0.01, 100.0
MODELS = ('MIND', 'ComiRecSA', 'REMI')
#: This package with negatives for the whole batch (its default), and with those of a target each,
#: as the program draws them.
OURS = {'genrec_pyg': 'shared', 'genrec_pyg, own negatives': 'own'}

logger = logging.getLogger('multi_interest')


def our_steps(
    data: HeteroData, name: str, negatives: str, history: int, num_negatives: int
) -> Iterator[float]:
    r"""Losses of endless training steps of this package."""
    model = our_model(data, name, negatives, history, num_negatives)
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-3)
    while True:
        for batch in model.make_loader(BATCH, 'user', 100):
            optimizer.zero_grad()
            loss = sum(model.loss(batch).values())
            loss.backward()
            optimizer.step()
            yield float(loss.detach())


def our_model(
    data: HeteroData, name: str, negatives: str, history: int, num_negatives: int
) -> MultiInterestRecommender:
    r"""Model of this package with the settings of the program."""
    extra: dict[str, Any] = (
        {'beta': BETA, 'routing_weight': ROUTING, 'selection': 'hard'} if name == 'REMI' else {}
    )
    return get_model(name)(
        data,
        hidden_channels=CHANNELS,
        num_interests=INTERESTS,
        history_length=history,
        num_negatives=num_negatives,
        negatives=negatives,
        multi_loss=True,
        **{'selection': 'p', **extra},
    ).train()


def their_steps(data: HeteroData, name: str, history: int, num_negatives: int) -> Iterator[float]:
    r"""Losses of endless training steps of the program, whose items and users count from 1."""
    # the same training sequences
    source = our_model(data, 'MIND', 'shared', history, num_negatives)
    sequences = source.sequences
    items = (sequences.item + 1).tolist()
    bounds = sequences.rowptr.tolist()
    train = {user + 1: items[bounds[user] : bounds[user + 1]] for user in range(source.num_users)}
    utils = importlib.import_module('utils')
    arguments = dict(selection='hard' if name == 'REMI' else 'p', interest_num=INTERESTS)
    if name == 'MIND':
        model = importlib.import_module('MIND').MIND(
            source.num_items, CHANNELS, BATCH, seq_len=history, relu_layer=False, **arguments
        )
    else:
        model = importlib.import_module('ComiRec').ComiRec(
            source.num_items, CHANNELS, BATCH, seq_len=history, **arguments
        )
    model.set_device('cpu')
    model.set_sampler(num_negatives, BETA if name == 'REMI' else 0, 'cpu')
    loader = utils.get_DataLoader(train, source.num_users, source.num_items, BATCH, history)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for _, target, items, mask in loader:
        optimizer.zero_grad()
        target = utils.to_tensor(target, 'cpu')
        interests, chosen, attention = model(
            utils.to_tensor(items, 'cpu'), target, utils.to_tensor(mask, 'cpu')
        )
        loss = model.calculate_sampled_loss(chosen, target, multi_interest=interests)
        if name == 'REMI':
            loss = loss + ROUTING * model.calculate_atten_loss(attention)
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


class Peak(TorchDispatchMode):
    r"""Peak of the bytes that tensors made within this context hold."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def _free(self, key: int, size: int) -> None:
        self.live -= size
        self._known.discard(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._known:
                    self._known.add(key)
                    weakref.finalize(storage, self._free, key, size)
                    self.live += size
                    self.peak = max(self.peak, self.live)
        return out


def turns(
    candidates: dict[str, Iterator[float]], steps: int, repeats: int
) -> dict[str, list[float]]:
    r"""Processor seconds of a step of every candidate, means of ``steps``, ``repeats`` of each."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, endless in candidates.items():
            begin = time.process_time()
            for _ in range(steps):
                next(endless)
            seconds[name].append((time.process_time() - begin) / steps)
    return seconds


def compare(data: HeteroData, name: str, args: argparse.Namespace) -> dict[str, dict]:
    r"""Seconds and bytes of a step of every candidate for one model."""
    makers: dict[str, Callable[[], Iterator[float]]] = {
        ours: lambda negatives=negatives: our_steps(
            data, name, negatives, args.history, args.negatives
        )
        for ours, negatives in OURS.items()
    }
    makers['BaM'] = lambda: their_steps(data, name, args.history, args.negatives)
    candidates = {key: make() for key, make in makers.items()}
    # the first step also makes the model; the second has Adam's state already
    first = {key: next(endless) for key, endless in candidates.items()}
    peaks = {}
    for key, endless in candidates.items():
        next(endless)
        with Peak() as trace:
            next(endless)
        peaks[key] = trace.peak
    found = condense(turns(candidates, args.steps, args.repeats))
    return {
        key: {**values, 'peak': peaks[key], 'first_loss': first[key]}
        for key, values in found.items()
    }


def report(document: dict[str, Any]) -> str:
    r"""Markdown."""
    rows = []
    for name, found in document['models'].items():
        ours = found['genrec_pyg']
        for key, values in found.items():
            rows.append(
                [
                    name,
                    key,
                    f'{1e3 * values["median"]:.1f}',
                    f'{1e3 * values["min"]:.1f} to {1e3 * values["max"]:.1f}',
                    f'{values["times_ours"]:.1f}',
                    f'{values["peak"] / 2**20:.1f}',
                    f'{values["peak"] / ours["peak"]:.1f}',
                    f'{values["first_loss"]:.3f}',
                ]
            )
    settings = document['settings']
    head = ['model', 'program', 'step, ms', 'range', 'of ours', 'peak, MiB', 'peak, of ours']
    return f"""# A training step beside the program of BaM, on {document['dataset']}

{markdown_table([*head, 'first loss'], rows)}

{settings['users']} users, {settings['items']} items. Batches of {BATCH} users with a target each,
histories of up to {settings['history']}, {INTERESTS} interests of width {CHANNELS},
{settings['negatives']} negatives, multi-interest loss; selection `p` (REMI: hard, beta {BETA},
routing penalty {ROUTING:g}). Processor time of one thread, drawing of the batch, negatives and Adam
included: medians of {settings['repeats']} turns of {settings['steps']} steps. Peak: of what the
tensors of a step hold, without model and state of Adam. Initial weights differ, so first losses do.

{machine_line(document['machine'])}
"""


def main(argv: Sequence[str] | None = None) -> int:
    r"""Measures and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', required=True)
    parser.add_argument('--dataset', default='ml-100k')
    parser.add_argument('--checkout', type=Path, required=True, help='folder of the program')
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--history', type=positive, default=50)
    parser.add_argument('--negatives', type=positive, default=1280)
    parser.add_argument('--steps', type=positive, default=5)
    parser.add_argument('--repeats', type=positive, default=7)
    parser.add_argument('--output', type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    require_files(args.checkout, 'src/BasicModel.py', 'src/ComiRec.py', 'src/MIND.py')
    description = prepare(1)
    flags = ['--model', 'MIND', '--dataset', args.dataset, '--root', args.root]
    data = make_data(parse_train_arguments([*flags, '--split', 'leave_one_out']).config)
    with foreign_code(args.checkout / 'src'):
        models = {name: compare(data, name, args) for name in args.models}
    settings = {
        'users': data['user'].num_nodes,
        'items': data['item'].num_nodes,
        **{key: getattr(args, key) for key in ('history', 'negatives', 'steps', 'repeats')},
    }
    document = {
        'dataset': args.dataset,
        'settings': settings,
        'models': models,
        'machine': description,
    }
    write_report(args.output / f'multi-interest-{args.dataset}', document, report(document))
    return 0


if __name__ == '__main__':
    sys.exit(main())
