r"""Training of a denoiser on noisy rows of all users."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import UserRowLoader
from genrec_pyg.nn.diffusion.config import DenoiserTrainingConfig
from genrec_pyg.nn.diffusion.denoiser import Denoiser
from genrec_pyg.nn.diffusion.modality_terms import modality_contrast, signal_error
from genrec_pyg.nn.diffusion.objectives import Multinomial, Objective, sampled_multinomial
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemViews, SparseRows
from genrec_pyg.ops import Adjacency
from genrec_pyg.optim import MirrorGradient
from genrec_pyg.utils.precision import full_precision, widened

#: Puts an optimizer within another one.
Wrap = Callable[[torch.optim.Optimizer], MirrorGradient]


class DenoiserTraining:
    r"""Loss, optimizer and epochs of a denoiser.

    Args:
        denoiser: Module ``(state, t, views) -> logits [B, I]``.
        process: Diffusion process; flips or Gaussian noise.
        objective: Objective, which may differ from that of ``config``.
        config: Weights of the further terms, learning rate and batch size.
        signal_weight: Weight of the modality signal injection of DiffMM, 0 for none; views then
            need ``features`` and ``items``.

    Raises:
        ConfigError: If negatives are sampled for an objective other than the multinomial one.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        process: DiffusionProcess,
        objective: Objective,
        config: DenoiserTrainingConfig,
        signal_weight: float = 0.0,
    ):
        if config.num_negatives > 0 and not isinstance(objective, Multinomial):
            raise ConfigError(
                f'num_negatives: got {config.num_negatives} with the objective '
                f'{objective.name!r}, accepted is 0'
            )
        self.denoiser = denoiser
        self.process = process
        self.objective = objective
        self.config = config
        self.signal_weight = signal_weight
        self._optimizer: torch.optim.Optimizer | None = None
        self._wrap: Wrap | None = None
        self._optimizer_state: dict[str, Any] | None = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        r"""The denoiser's own Adam, made on first use so that it sees the parameters on their final
        device, and wrapped as :meth:`wrap_optimizer` says.
        """
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(
                self.denoiser.parameters(), lr=self.config.lr, fused=True
            )
            if self._wrap is not None:
                self._optimizer = self._wrap(self._optimizer)
            if self._optimizer_state is not None:
                self._optimizer.load_state_dict(self._optimizer_state)
                self._optimizer_state = None
        return self._optimizer

    def wrap_optimizer(self, wrap: Wrap | None) -> None:
        r"""Recreates the optimizer at its next use, within ``wrap`` unless it is :obj:`None`."""
        self._wrap, self._optimizer, self._optimizer_state = wrap, None, None

    def forget(self) -> None:
        r"""Recreates the optimizer at its next use, wrapped as before."""
        self._optimizer = self._optimizer_state = None

    def state_dict(self) -> dict[str, Any] | None:
        r"""State of the optimizer, if it has one."""
        return self._optimizer_state if self._optimizer is None else self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        r"""Restores what :meth:`state_dict` returned, at the next use of the optimizer."""
        self._optimizer, self._optimizer_state = None, copy.deepcopy(state)

    def epoch(self, interactions: Adjacency, views: ItemViews) -> dict[str, float]:
        r"""One pass over all users in random order; returns mean loss terms and seconds."""
        begin = time.perf_counter()
        num_users, num_items = interactions.size
        self.denoiser.train()
        if isinstance(self.optimizer, MirrorGradient):
            self.optimizer.start_epoch()
        totals: dict[str, Tensor] = {}
        keys = self.denoiser.keys(views)
        keys = None if keys.requires_grad else keys  # keys without parameters serve all batches
        for user, rowptr, col in UserRowLoader(interactions, self.config.batch_size, shuffle=True):
            for name, term in self._step(SparseRows(rowptr, col, num_items), views, keys).items():
                totals[name] = totals.get(name, 0) + term * user.numel()
        metrics = {name: float(total) / num_users for name, total in totals.items()}
        return {**metrics, 'seconds_denoiser': time.perf_counter() - begin}

    def _step(self, rows: SparseRows, views: ItemViews, keys: Tensor | None) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            found = self.loss(rows, views, keys)
            loss = sum(found.values())
            with full_precision(loss):
                loss.backward()
            # Autocast caches cast weights until its context ends; the cache is cleared because the
            # weights change here.
            torch.clear_autocast_cache()
            # of the first time: what the batch found before its step
            for name, term in found.items():
                terms.setdefault(name, term.detach())
            return loss

        self.optimizer.step(closure)
        # now, so that no gradient is held through the next forward pass
        self.optimizer.zero_grad(set_to_none=True)
        return terms

    def loss(
        self, rows: SparseRows, views: ItemViews, keys: Tensor | None = None
    ) -> dict[str, Tensor]:
        r"""Loss terms for clean rows: the objective, the variational, the modality-aware
        contrastive and the signal term.

        Args:
            rows: Clean rows.
            views: Item views.
            keys: The denoiser's keys where they are already known; they are read by sampled
                objectives only.
        """
        t = torch.randint(self.process.num_steps, (rows.num_rows,), device=rows.col.device)
        rates = self.process.rates(rows)
        noisy = self.process.diffuse(rows, t, rates)
        if 0 < self.config.num_negatives < rows.num_items:
            keys = self.denoiser.keys(views) if keys is None else keys
            query = self.denoiser.query(noisy, t, views)
            with full_precision(query):
                return self.sampled_loss(widened(query), widened(keys), rows, views)
        logits = widened(self.denoiser(noisy, t, views))
        weight = (
            self.process.step_weight(rows, rates).to(logits)[t]
            if self.objective.is_estimate
            else None
        )
        terms = {f'denoiser_{self.objective.name}': self.objective.loss(logits, rows, weight)}
        if self.config.variational_weight > 0:
            terms['denoiser_variational'] = (
                self.config.variational_weight
                * self.process.variational(
                    clean_estimate(self.objective, self.process, logits, rows),
                    rows,
                    noisy,
                    t,
                    rates,
                )
            )
        if self._contrasts(views):
            terms['denoiser_contrast'] = self._contrast(
                self.objective.profile(logits) @ views.embedding, rows, views
            )
        if self.signal_weight > 0:
            terms['denoiser_signal'] = self.signal_weight * signal_error(
                self.objective.profile(logits), rows, views
            )
        return terms

    def sampled_loss(
        self, query: Tensor, keys: Tensor, rows: SparseRows, views: ItemViews
    ) -> dict[str, Tensor]:
        r"""As :meth:`loss`, with the normalizer estimated from a sample of the items.

        Args:
            query: Queries ``[B, q]``.
            keys: Keys ``[I, q]``.
            rows: Clean rows.
            views: Item views.
        """
        sample = (
            torch.randperm(rows.num_items, device=query.device)[: self.config.num_negatives]
            .sort()
            .values
        )
        loss, ones, others = sampled_multinomial(query, keys, rows, sample)
        terms = {'denoiser_multinomial': loss}
        if self._contrasts(views):
            profile = others @ views.embedding[sample]
            profile = profile.index_add(
                0, rows.row(), ones.unsqueeze(1) * views.embedding[rows.col.long()]
            )
            terms['denoiser_contrast'] = self._contrast(profile, rows, views)
        return terms

    def _contrasts(self, views: ItemViews) -> bool:
        return self.config.contrast_weight > 0 and views.num_modalities > 0

    def _contrast(self, profile: Tensor, rows: SparseRows, views: ItemViews) -> Tensor:
        return self.config.contrast_weight * modality_contrast(
            profile, rows, views, self.config.contrast_temperature
        )


def clean_estimate(
    objective: Objective, process: DiffusionProcess, logits: Tensor, rows: SparseRows
) -> Tensor:
    r"""Estimate of the clean rows ``[B, I]`` as ``process`` wants it: a probability where states
    are zeros and ones, otherwise what the objective estimates.
    """
    if objective.is_estimate and not process.binary:
        return logits
    return objective.probability(logits, rows.count())
