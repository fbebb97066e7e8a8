r"""Early stopping on an unrounded metric."""

from __future__ import annotations

from typing import Any


class EarlyStopping:
    r"""Remembers the best value and stops after ``patience`` evaluations without a better one.

    Args:
        patience: Evaluations to wait; 0 never stops.

    Examples:
        >>> from genrec_pyg.training import EarlyStopping
        >>> stopper = EarlyStopping(patience=2)
        >>> for epoch, recall in enumerate([0.1, 0.3, 0.2, 0.2]):
        ...     improved = stopper.step(recall, epoch)
        >>> stopper.best_epoch, stopper.should_stop
        (1, True)
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.best = float('-inf')
        self.best_epoch = -1
        self.waited = 0

    def step(self, value: float, epoch: int) -> bool:
        r"""Takes the value of ``epoch``; returns whether it is the best so far."""
        if value > self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def should_stop(self) -> bool:
        r"""Whether patience has run out."""
        return 0 < self.patience <= self.waited

    def state_dict(self) -> dict[str, Any]:
        r"""State for a checkpoint."""
        return {'best': self.best, 'best_epoch': self.best_epoch, 'waited': self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`state_dict` returned; patience stays as configured now."""
        self.best = state['best']
        self.best_epoch = state['best_epoch']
        self.waited = state['waited']
