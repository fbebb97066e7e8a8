r"""Reverse chain of a diffusion, from a start to the last prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.nn.diffusion.config import STARTS
from genrec_pyg.nn.diffusion.denoiser import Denoiser
from genrec_pyg.nn.diffusion.denoiser_training import clean_estimate
from genrec_pyg.nn.diffusion.objectives import Objective
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemKeys, ItemViews, RowState, SparseRows
from genrec_pyg.utils.precision import full_precision, widened
from genrec_pyg.utils.validation import check_choice


class ReverseChain:
    r"""Steps from a start back to the clean rows.

    Args:
        denoiser: Denoiser.
        process: Process whose steps are reversed.
        objective: What the denoiser predicts.
        start: ``'diffused'``, ``'observed'`` or ``'clean'``, see
            :class:`~genrec_pyg.nn.diffusion.DiffusionConfig`.

    Raises:
        ConfigError: On an unknown start.
    """

    def __init__(
        self, denoiser: Denoiser, process: DiffusionProcess, objective: Objective, start: str
    ):
        check_choice('start', start, STARTS)
        self.denoiser = denoiser
        self.process = process
        self.objective = objective
        self.start = start

    @property
    def is_constant(self) -> bool:
        r"""Whether the prediction is the same in every epoch."""
        return not self.denoiser.trainable and self.start == 'observed'

    def keys(self, views: ItemViews) -> ItemKeys:
        r"""The denoiser's keys."""
        return ItemKeys(widened(self.denoiser.keys(views)))

    @torch.no_grad()
    def sample(self, rows: SparseRows, views: ItemViews, keys: ItemKeys | None = None) -> Tensor:
        r"""Reverse chain for clean rows; returns the logits ``[B, I]`` of the last prediction.

        Args:
            rows: Clean rows.
            views: Item views.
            keys: The denoiser's keys, where several blocks of rows share them.
        """
        keys = keys or self.keys(views)
        rates = self.process.rates(rows)
        # Queries and keys are factors of an estimate, which is all that a linear step takes.
        factored = self.process.linear and self.objective.is_estimate
        state: RowState = rows
        last = 0 if self.start == 'observed' else self.process.num_steps - 1
        if self.start == 'diffused':
            state = self.process.diffuse(
                rows, torch.full_like(rows.rowptr[1:], last, dtype=torch.long), rates
            )
        for step in range(last, 0, -1):
            query = self._query(state, rows, step, views)
            if factored:
                with full_precision(query):
                    state = self.process.reverse_factored(state, widened(query), keys, step, rates)
            else:
                logits = widened(query @ keys.key.t())
                estimate = clean_estimate(self.objective, self.process, logits, rows)
                state = self.process.reverse(state, estimate, step, rates)
        query = self._query(state, rows, 0, views)
        with full_precision(query):  # these are ranked: in eight bits many would be equal
            return widened(query) @ keys.key.t()

    def _query(self, state: RowState, rows: SparseRows, step: int, views: ItemViews) -> Tensor:
        t = torch.full((rows.num_rows,), step, dtype=torch.long, device=rows.col.device)
        return self.denoiser.query(state, t, views)
