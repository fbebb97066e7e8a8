r"""One training run in a process of its own, through the same configuration and training loop as a
user's run.

``python -m benchmarks.common.trial tune FLAGS...`` takes the flags of ``python -m
genrec_pyg.train`` and ends its standard output by one JSON line: validation figures, times and
memory. ``final`` adds the test figures and the recall of every test user; a trial that chooses
among settings never sees them. Nothing is written to disk.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence

import torch

from benchmarks.common.machine import memory_bytes
from genrec_pyg.config import parse_train_arguments
from genrec_pyg.config.build import make_data, make_model
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.train import make_trainer
from genrec_pyg.training import seed_everything
from genrec_pyg.utils.memory import keep_freed_memory

#: Length of the lists whose recall is compared user by user.
K = 20


def measure(flags: Sequence[str], final: bool = False) -> dict[str, object]:
    r"""Trains once.

    Returns:
        ``validation`` figures at the chosen ``epoch`` (from 0, -1 without training) of ``epochs``;
        ``stopped``, what ended the training; seconds of ``setup`` (the model from loaded data), of
        the median training ``epoch_seconds`` and ``evaluation_seconds`` of an epoch, of the whole
        training (``train_seconds``) and from loaded data to the end of the chosen epoch
        (``best_seconds``); peak memory of the process and of the GPU in bytes, the latter 0 without
        one. With ``final`` also ``test`` figures and the ``recall`` of each of ``users``.
    """
    keep_freed_memory()  # as the command line does
    config = parse_train_arguments(flags).config
    data = make_data(config)
    trainer = make_trainer(config)
    seed_everything(config.seed)
    start = time.perf_counter()
    model = make_model(config, data)
    setup = time.perf_counter() - start
    result = trainer.fit(model, data)
    history = result.history
    ends = [0.0, *(record['total_seconds'] for record in history)]
    figures: dict[str, object] = {
        'validation': result.validation,
        'epoch': result.epoch,
        'epochs': len(history),
        'stopped': result.stopped,
        'setup': setup,
        'epoch_seconds': _median(record['seconds'] for record in history),
        'evaluation_seconds': _median(
            end - begin - record['seconds'] for begin, end, record in zip(ends, ends[1:], history)
        ),
        'train_seconds': result.seconds,
        'best_seconds': setup + ends[result.epoch + 1],
    }
    if final:
        users, recall = Evaluator(data, 'test', (K,), config.protocol).user_recall(model, K)
        figures.update(test=result.test, users=users.tolist(), recall=recall.tolist())
    return {
        **figures,
        'memory': memory_bytes()['peak'],
        'gpu_memory': torch.cuda.max_memory_allocated(trainer.device)
        if trainer.device.type == 'cuda'
        else 0,
    }


def _median(values) -> float:
    return statistics.median([*values] or [0.0])


if __name__ == '__main__':
    line = json.dumps(measure(sys.argv[2:], {'tune': False, 'final': True}[sys.argv[1]]))
    sys.stdout.write(f'\n{line}\n')
