r"""One training of :mod:`benchmarks.quality.item_sides` in a process of its own, which ends its
output by a line of JSON.

``python -m benchmarks.quality.item_sides_run '{"dataset": ..., "model": ..., ...}'`` takes what
:func:`measure` takes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.machine import memory_bytes
from benchmarks.quality.item_sides_data import add_features, load
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.nn.models import get_model
from genrec_pyg.training import Trainer, seed_everything
from genrec_pyg.utils.memory import keep_freed_memory

#: Training interactions of the target, from and up to; the groups of Yuan et al. (SIGIR 2023), who
#: call items with fewer than ten cold and items with none new, and the rest in two.
GROUPS = {
    'all': (0, 10**9),
    'new': (0, 0),
    'cold': (1, 9),
    '10 to 19': (10, 19),
    '20 and more': (20, 10**9),
}
K = 10


def measure(
    dataset: str,
    root: str,
    model: str,
    content: str | None,
    hparams: dict[str, Any],
    trainer: dict[str, Any],
    seed: int,
    users: int,
    cache: str | None = None,
) -> dict[str, Any]:
    r"""Trains once.

    Args:
        dataset: Name of the dataset.
        root: Folder of the datasets.
        model: Name of the model.
        content: Content of which features are given as a modality, if any.
        hparams: Settings of the model.
        trainer: Settings of the trainer.
        seed: Seed of everything.
        users: Number of users, 0 for all.
        cache: Folder in which features are kept.

    Returns:
        Figures per group of targets, epochs, seconds, parameters, encoded items, and peak memory.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    data = load(dataset, Path(root), users)
    begin = time.perf_counter()
    if content is not None:
        add_features(data, content, None if cache is None else Path(cache))
    feature_seconds = time.perf_counter() - begin
    seed_everything(seed)
    begin = time.perf_counter()
    made = get_model(model)(
        data, modalities=[] if content is None else [f'{content}_features'], **hparams
    )
    setup = time.perf_counter() - begin
    counter = _Encoded(made)
    result = Trainer(
        seed=seed, device='cpu', progress=False, ks=(K, 20), monitor=f'ndcg@{K}', **trainer
    ).fit(made, data)
    history = result.history
    pairs = Evaluator(data, 'test', (K,)).measure(made, {}).users.pairs
    steps = sum(record['seconds'] for record in history)
    hits = [record['val'][f'hit@{K}'] for record in history if 'val' in record]
    return {
        'groups': groups(pairs['rank'], pairs['popularity']),
        'epoch': result.epoch,
        'epochs': len(history),
        'stopped': result.stopped,
        'collapsed': collapsed(hits, made.num_items),
        'seconds': result.seconds,
        'setup_seconds': setup,
        'feature_seconds': feature_seconds,
        'epoch_seconds': statistics.median([record['seconds'] for record in history] or [0.0]),
        'encoded_per_second': counter.training / steps if steps else 0.0,
        'encoded_per_epoch': counter.training / max(len(history), 1),
        'parameters': sum(
            parameter.numel() for parameter in made.parameters() if parameter.requires_grad
        ),
        'sizes': {
            'users': made.num_users,
            'items': made.num_items,
            'training': made.graph.num_edges,
        },
        'memory': memory_bytes()['peak'],
    }


def groups(rank: np.ndarray, popularity: np.ndarray) -> dict[str, dict[str, float]]:
    r"""Hit rate and NDCG at :data:`K` and the number of targets, per group of targets; rank 0 is
    not in the list.
    """
    found = {}
    for name, (low, high) in GROUPS.items():
        chosen = rank[(popularity >= low) & (popularity <= high)]
        hit = (chosen > 0) & (chosen <= K)
        gain = np.where(hit, 1 / np.log2(np.maximum(chosen, 1) + 1), 0.0)
        found[name] = {
            'hit': float(hit.mean()) if len(chosen) else 0.0,
            'ndcg': float(gain.mean()) if len(chosen) else 0.0,
            'targets': int(len(chosen)),
        }
    return found


def collapsed(hits: Sequence[float], num_items: int) -> bool:
    r"""Whether a training fell below three times chance after it had been above, as it may with
    large learning rates of encoders.

    Args:
        hits: Hit rate at :data:`K` on validation, epoch by epoch.
        num_items: Number of items ``I``.
    """
    low = 3 * K / num_items
    above = [hit >= low for hit in hits]
    return any(before and not after for before, after in zip(above, above[1:])) and not above[-1]


class _Encoded:
    r"""Counts items that an encoder encodes in training; chunks that backward computes again count
    once.
    """

    def __init__(self, model: torch.nn.Module):
        self.training = 0
        for module in model.modules():
            if type(module).__name__ == 'EncodedRows':
                compute = module.compute

                def counted(item: torch.Tensor, compute: Any = compute) -> torch.Tensor:
                    self.training += item.numel() if torch.is_grad_enabled() else 0
                    return compute(item)

                module.compute = counted


if __name__ == '__main__':
    line = json.dumps(measure(**json.loads(sys.argv[1])))
    sys.stdout.write(f'\n{line}\n')
