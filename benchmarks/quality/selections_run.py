r"""One training of :mod:`benchmarks.quality.selections`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.quality.interest_use import interest_use
from benchmarks.quality.selections_tables import METRICS
from genrec_pyg.config import parse_train_arguments
from genrec_pyg.config.build import make_data, make_model
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.nn.models.sequential.multi_interest import MultiInterestRecommender
from genrec_pyg.train import make_trainer
from genrec_pyg.training import seed_everything
from genrec_pyg.utils.memory import keep_freed_memory


def measure(flags: Sequence[str]) -> dict[str, Any]:
    r"""Trains once, on one thread.

    Args:
        flags: Those of ``python -m genrec_pyg.train``.

    Returns:
        ``validation`` and ``test`` figures, the ``rank`` of the test item of every user (0 below
        20), ``tail`` (Recall@20 of the two fifths of the test items that are least popular), the
        chosen ``epoch`` of ``epochs``, processor and wall seconds, and of models with several
        interests their ``use``.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    config = parse_train_arguments(flags).config
    data = make_data(config)
    trainer = make_trainer(config)
    seed_everything(config.seed)
    model = make_model(config, data)
    begin = time.process_time()
    result = trainer.fit(model, data)
    processor = time.process_time() - begin
    pairs = Evaluator(data, 'test', (10, 20)).measure(model, {}).users.pairs
    order = np.argsort(pairs['user'], kind='stable')
    rank, popularity = pairs['rank'][order], pairs['popularity'][order]
    return {
        'validation': {name: result.validation[name] for name in METRICS},
        'test': {name: result.test[name] for name in METRICS},
        'rank': rank.tolist(),
        'tail': tail_recall(rank, popularity),
        'epoch': result.epoch,
        'epochs': len(result.history),
        'stopped': result.stopped,
        'epoch_seconds': statistics.median([r['seconds'] for r in result.history] or [0.0]),
        'processor_seconds': processor,
        'sizes': {
            'users': model.num_users,
            'items': model.num_items,
            'training': model.graph.num_edges,
            'targets': len(rank),
        },
        'use': interest_use(model, data) if isinstance(model, MultiInterestRecommender) else None,
    }


def tail_recall(rank: np.ndarray, popularity: np.ndarray) -> float:
    r"""Recall@20 of the targets whose popularity is at most the second quintile of all."""
    tail = rank[popularity <= np.quantile(popularity, 0.4)]
    return float(((tail > 0) & (tail <= 20)).mean())
