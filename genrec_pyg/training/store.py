r"""Where a training keeps its states: checkpoints in the folder of a run, or the best state in
memory.
"""

from __future__ import annotations

import copy
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import genrec_pyg
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender
from genrec_pyg.runs.checkpoint import (
    check_identity,
    load_checkpoint,
    save_checkpoint,
    warn_of_held_out,
)
from genrec_pyg.runs.shards import in_memory, remove_unused_pieces, stored_tables
from genrec_pyg.training.distributed import Distributed
from genrec_pyg.utils.files import write_atomically

#: Gathers the whole state of a training; collective.
State = Callable[[], dict[str, Any]]


class StateStore(ABC):
    r"""Last and best state of a training. All methods are collective; the main process writes.

    Args:
        model: Trained model.
        distributed: The processes that train it.
    """

    def __init__(self, model: Recommender, distributed: Distributed):
        self.model = model
        self.distributed = distributed

    @abstractmethod
    def save(self, state: State, improved: bool) -> None:
        r"""Keeps the state after an epoch, also as the best one if it ``improved``."""

    @abstractmethod
    def save_as_best(self, state: State, had_best: bool) -> None:
        r"""Makes an epoch the best one that was evaluated only because the session ends; the best
        of the epochs that were due, if it ``had_best``, is set aside for a session that goes on.
        """

    @abstractmethod
    def last(self, held_out: dict[str, str]) -> dict[str, Any]:
        r"""State after the last finished epoch of the interrupted training; warns where that was
        trained with other held-out pairs than those with the digests ``held_out``.
        """

    @abstractmethod
    def restore_due_best(self) -> None:
        r"""Makes the best of the epochs that were due the best one again, as :meth:`save_as_best`
        found it; called when a training goes on.
        """

    @abstractmethod
    def discard_earlier(self) -> None:
        r"""Forgets what another training has set aside; called when one starts."""

    @abstractmethod
    def best_model(self, run: str | None) -> dict[str, Any]:
        r"""State of the model at its best epoch, in the training with the identifier ``run``."""


class MemoryStore(StateStore):
    r"""The best state of the model in memory; nothing is written and nothing can be resumed.

    Args:
        model: Trained model.
        distributed: The processes that train it.
        chooses: Whether an epoch is chosen; otherwise the last one is kept, which is no state of
            its own.
    """

    def __init__(self, model: Recommender, distributed: Distributed, chooses: bool):
        super().__init__(model, distributed)
        self.chooses = chooses
        self._best: dict[str, Any] | None = None

    def save(self, state: State, improved: bool) -> None:
        if improved and self.chooses:
            self._best = copy.deepcopy(self.distributed.model_state(self.model))

    def save_as_best(self, state: State, had_best: bool) -> None:
        r"""Does nothing: the model is in that state."""

    def last(self, held_out: dict[str, str]) -> dict[str, Any]:
        raise ConfigError(
            'resume: got True without an output folder, accepted is the folder of the '
            'interrupted run'
        )

    def restore_due_best(self) -> None:
        r"""Does nothing: nothing was set aside."""

    def discard_earlier(self) -> None:
        r"""Does nothing: nothing was set aside."""

    def best_model(self, run: str | None) -> dict[str, Any]:
        return self._best


class CheckpointStore(StateStore):
    r"""``last.pt`` and ``best.pt`` in ``FOLDER/checkpoints``.

    Args:
        folder: Folder of the run.
        model: Trained model.
        distributed: The processes that train it.
    """

    def __init__(self, folder: Path, model: Recommender, distributed: Distributed):
        super().__init__(model, distributed)
        self.folder = folder / 'checkpoints'

    def path(self, name: str) -> Path:
        r"""File of the checkpoint called ``name``."""
        return self.folder / f'{name}.pt'

    def discard_earlier(self) -> None:
        if self.distributed.processes.is_main:
            self.path('best-due').unlink(missing_ok=True)

    def save(self, state: State, improved: bool) -> None:
        content = self._collect(state)
        if not self.distributed.processes.is_main:  # it took part in gathering the state
            return
        if improved:  # first, so that whoever reads last.pt finds the best state that it names
            save_checkpoint(self.path('best'), content)
        save_checkpoint(self.path('last'), content)
        remove_unused_pieces(self.folder)

    def save_as_best(self, state: State, had_best: bool) -> None:
        content = self._collect(state)
        if not self.distributed.processes.is_main:
            return
        if had_best:
            with self.path('best').open('rb') as source:
                write_atomically(
                    self.path('best-due'), lambda file: shutil.copyfileobj(source, file)
                )
        save_checkpoint(self.path('best'), content)

    def last(self, held_out: dict[str, str]) -> dict[str, Any]:
        state = self._load('last')
        warn_of_held_out(state, self.path('last'), held_out)
        return state

    def restore_due_best(self) -> None:
        if self.distributed.processes.is_main and self.path('best-due').exists():
            os.replace(self.path('best-due'), self.path('best'))

    def best_model(self, run: str | None) -> dict[str, Any]:
        return in_memory(self._load('best', run)['model'])

    def _collect(self, state: State) -> dict[str, Any]:
        # A name of its own for every state: the pieces of the one before stay until its checkpoint
        # is replaced.
        tag = self.distributed.processes.on_main(lambda: secrets.token_hex(4))
        with self.distributed.pieces(self.folder, tag):
            return state()

    def _load(self, name: str, run: str | None = None) -> dict[str, Any]:
        path = self.path(name)
        state = self.distributed.processes.on_main(lambda: load_checkpoint(path, pieces=True))
        check_identity(state, path, type(self.model).__name__, self.model.graph.fingerprint(), run)
        return stored_tables(state, self.folder)


def make_store(
    folder: Path | None, model: Recommender, distributed: Distributed, chooses: bool
) -> StateStore:
    r"""The store of a training that writes to ``folder``, or nowhere, and ``chooses`` an epoch or
    keeps the last one.
    """
    if folder is None:
        return MemoryStore(model, distributed, chooses)
    return CheckpointStore(folder, model, distributed)


def training_state(
    model: Recommender, distributed: Distributed, optimizer: Any, **further: Any
) -> dict[str, Any]:
    r"""Content of a checkpoint: model and optimizer as one process has them, identity and
    ``further`` plain values; collective.
    """
    return {
        'model': distributed.model_state(model),
        'model_name': type(model).__name__,
        'graph': model.graph.fingerprint(),
        'optimizer': None if optimizer is None else distributed.optimizer_state(optimizer),
        **further,
        'version': genrec_pyg.__version__,
    }
