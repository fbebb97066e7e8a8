r"""Trained rivals of :mod:`benchmarks.quality.transfer`, tuned on the validation split of every
dataset within processor seconds, so that a busy machine takes nothing from them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from genrec_pyg.config import resolve_config
from genrec_pyg.nn.models import get_model
from genrec_pyg.training import Trainer, seed_everything
from genrec_pyg.tuning import Tuner, search_space
from genrec_pyg.tuning.session import without_test

#: Shares of the processor seconds of a search that one trial, and the final training, may take.
TRIAL, FINAL = 0.2, 0.4
#: More than any training reaches within its seconds.
EPOCHS = 100_000


class Clock:
    r"""Ends a training after processor seconds; the ``stop_when`` of a trainer.

    Args:
        seconds: Processor seconds from now on.
    """

    def __init__(self, seconds: float):
        self.begin, self.seconds = time.process_time(), seconds

    @property
    def spent(self) -> float:
        r"""Processor seconds since the start."""
        return time.process_time() - self.begin

    def __call__(self, record: dict[str, Any] | None = None) -> bool:
        return self.spent >= self.seconds


def train(
    name: str, data: HeteroData, overrides: dict[str, Any], seed: int, seconds: float
) -> tuple[Any, Any]:
    r"""The model with ``overrides``, trained for at most ``seconds`` of the processor, and the
    result of its training.
    """
    config = resolve_config(name, 'unknown', {**overrides, 'seed': seed})
    seed_everything(seed)
    trainer = Trainer(epochs=EPOCHS, seed=seed, device='cpu', progress=False, **config.trainer)
    trainer.stop_when = Clock(seconds)
    model = get_model(name)(data, **config.hparams)
    return model, trainer.fit(model, data)


def search(name: str, data: HeteroData, seconds: float) -> dict[str, Any]:
    r"""The setting of the best validation Recall@20 that a study finds within ``seconds`` of the
    processor, the shipped default first; no test interaction is in the graph it sees.
    """
    graph, clock = without_test(data), Clock(seconds)
    space, default = search_space(name, 'unknown')
    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(Path(folder) / 'study.log', name, space, default, trials=1000)
        while not clock():
            trial = tuner.ask()
            if trial is None:
                break
            limit = min(TRIAL * seconds, seconds - clock.spent)
            _, result = train(name, graph, trial.params, 0, limit)
            tuner.tell(trial, result.validation['recall@20'], {})
        values = [trial.value for trial in tuner.finished]
        return {
            'settings': dict(tuner.best.params),
            'trials': len(values),
            'default_validation': values[0],
            'median_validation': statistics.median(values),
            'tuning_seconds': clock.spent,
        }
