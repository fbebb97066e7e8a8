r"""MLflow, from its own settings: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.runs.trackers.base import TrackedRun
from genrec_pyg.runs.trackers.identity import read_identity, write_identity

#: Most figures and settings in one call, and most characters of a setting, that MLflow takes.
_METRICS, _PARAMS, _CHARACTERS = 1000, 100, 6000
#: Characters of names that MLflow takes besides letters and digits.
_ALLOWED = '_-. /:'


class MLflowTracker:
    r"""Logs to MLflow through its client, so that an active run of the caller's is left alone. A
    training that is resumed goes on in its run; trials of a search have the tag ``search``.
    """

    def __init__(self) -> None:
        self._client: Any | None = None
        self._run = ''

    def start(self, run: TrackedRun) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ConfigError(
                f"trackers: got 'mlflow', which cannot be imported ({error}); accepted is what is "
                'installed, for example by pip install mlflow'
            ) from error
        self._client = client = MlflowClient()
        known = read_identity(run.folder, 'mlflow') if run.epochs_done > 0 else None
        if known is not None:
            client.update_run(known, status='RUNNING')
            self._run = known
            return
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME', 'genrec_pyg')
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        tags = {} if run.group is None else {'search': run.group}
        self._run = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        write_identity(run.folder, 'mlflow', self._run)
        from mlflow.entities import Param

        params = [Param(_name(k), str(v)[:_CHARACTERS]) for k, v in run.settings.items()]
        for begin in range(0, len(params), _PARAMS):
            client.log_batch(self._run, params=params[begin : begin + _PARAMS])

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_name(name), value, now, epoch) for name, value in figures.items()]
        for begin in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._run, metrics=metrics[begin : begin + _METRICS])

    def summarize(self, figures: Mapping[str, float]) -> None:
        self.log({f'final/{name}': value for name, value in figures.items()}, 0)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, 'FAILED' if failed else 'FINISHED')


def _name(text: str) -> str:
    r"""``'val/recall@20'`` as ``'val/recall_20'``: MLflow takes few characters in names."""
    return ''.join(c if c.isalnum() or c in _ALLOWED else '_' for c in text)
