r"""Weights & Biases, from its own settings: ``WANDB_PROJECT``, ``WANDB_MODE=offline`` and
others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.runs.trackers.base import TrackedRun
from genrec_pyg.runs.trackers.identity import read_identity, write_identity


class WandbTracker:
    r"""Logs to Weights & Biases, in a run of its own beside any that the caller has. A training
    that is resumed goes on in its run; trials of a search are a group.
    """

    def __init__(self) -> None:
        self._run: Any | None = None

    def start(self, run: TrackedRun) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"trackers: got 'wandb', which cannot be imported ({error}); accepted is what is "
                'installed, for example by pip install wandb'
            ) from error
        known = read_identity(run.folder, 'wandb') if run.epochs_done > 0 else None
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get('WANDB_PROJECT', 'genrec_pyg'),
            name=run.name,
            group=run.group,
            id=known,
            resume=None if known is None else 'allow',
            config=dict(run.settings),
            dir=str(run.folder),
            reinit='create_new',
        )
        write_identity(run.folder, 'wandb', self._run.id)

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(figures), step=epoch)

    def summarize(self, figures: Mapping[str, float]) -> None:
        self._run.summary.update({f'final/{name}': value for name, value in figures.items()})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
