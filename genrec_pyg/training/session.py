r"""What a training has reached, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genrec_pyg.training.early_stopping import EarlyStopping

#: Label of every result under each protocol.
SELECTION = {'validation': 'chosen on validation', 'published': 'chosen on test'}
#: Label of a result without a validation split, by whether the model is trained.
NOT_CHOSEN = {True: 'last epoch, nothing was chosen', False: 'nothing was chosen'}


@dataclass
class FitResult:
    r"""Result of :meth:`Trainer.fit`.

    Args:
        validation: Validation figures at the chosen epoch; empty where the graph has no validation
            interaction.
        test: Test figures at the chosen epoch; empty where the graph has no test interaction.
        epoch: Chosen epoch, from 0; -1 for a model that is not trained.
        seconds: Seconds of training and validation, earlier sessions of a resumed run included.
        selection: How the epoch was chosen.
        history: Record of every epoch.
        stopped: What ended the training: ``'epochs'``, ``'patience'``, ``'time'`` or ``'pruned'``
            (by ``stop_when``); :obj:`None` for a model that is not trained.
        not_measured: Which of ``'validation'`` and ``'test'`` the graph has no interaction for.
        choice: What the model chose on validation before training, see
            :meth:`~genrec_pyg.nn.models.Recommender.choose`.
        further: Validation and test figures beyond accuracy (:mod:`genrec_pyg.evaluation.metrics`).
        parts: Validation and test figures of the parts of the model alone, by name, at the chosen
            epoch.
    """

    validation: dict[str, float]
    test: dict[str, float]
    epoch: int
    seconds: float
    selection: str
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None
    not_measured: list[str] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    further: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        r"""All but the history, as ``metrics.json`` has it."""
        return {name: value for name, value in vars(self).items() if name != 'history'}


@dataclass
class Session:
    r"""State of a training after its last finished epoch, restored from ``last.pt``.

    Args:
        stopper: Best epoch so far and evaluations without a better one.
        selection: How the epoch is chosen.
        run: Random identifier of the training, the same in all its sessions; :obj:`None` in
            checkpoints of older versions.
        epoch: Next epoch.
        seconds: Seconds of training and validation so far.
        record: Figures of the last finished epoch.
        evaluated: Whether that epoch was due for an evaluation.
        held_out: Digests of the held-out pairs on which it is evaluated.
        choice: What the model chose before training.
        modalities: Names of the modalities of the data.
    """

    stopper: EarlyStopping
    selection: str
    run: str | None
    epoch: int = 0
    seconds: float = 0.0
    record: dict[str, Any] | None = None
    evaluated: bool = True
    held_out: dict[str, str] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    modalities: list[str] = field(default_factory=list)

    def finish(self, record: dict[str, Any], seconds: float) -> None:
        r"""Takes the record of an epoch that took ``seconds``, and notes in it the seconds of the
        whole training.
        """
        self.seconds += seconds
        record['total_seconds'] = self.seconds
        self.record = record

    def state_dict(self) -> dict[str, Any]:
        return {
            'stopper': self.stopper.state_dict(),
            'epoch': self.epoch - 1,
            'seconds': self.seconds,
            'record': self.record,
            'evaluated': self.evaluated,
            'held_out': self.held_out,
            'selection': self.selection,
            'run': self.run,
            'choice': self.choice,
            'modalities': self.modalities,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stopper.load_state_dict(state['stopper'])
        self.epoch, self.seconds = state['epoch'] + 1, state['seconds']
        self.record, self.evaluated = state.get('record'), state.get('evaluated', True)
        self.run, self.choice = state.get('run'), state.get('choice', {})
