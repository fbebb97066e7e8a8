r"""What the models share that represent a user by several interests, and how BaM trains them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import SequenceBatch, SequenceLoader
from genrec_pyg.loader.sequences import ALIGNMENTS, check_sizes
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import NO_CANDIDATE, in_row_blocks, sampled_softmax
from genrec_pyg.nn.models.sequential.sequence_recommender import SequenceRecommender
from genrec_pyg.nn.sequence import InterestSelection
from genrec_pyg.utils.validation import check_choice, check_range


class MultiInterestRecommender(SequenceRecommender):
    r"""A history gives ``K`` interests; an item scores by its best one.

    With :math:`s_k(j) = \mathbf{m}_k \cdot \mathbf{e}_j` and :math:`\ell` the softmax of the target
    among sampled negatives (:func:`~genrec_pyg.nn.losses.sampled_softmax`), one interest learns
    from each target, and with ``multi_loss`` all of them do, each in proportion to its share of the
    target's score:

    .. math::
        \mathcal{L} = \ell(s_z) + \ell \Bigl( \log \sum_k \exp s_k \Bigr)

    ``selection`` says which interest :math:`z` is: ``'hard'``, the best one, as ComiRec and REMI
    train, or drawn softly, as BaM (Lee, Yun and Kang, IEEE BigData 2024,
    https://github.com/snudatalab/BaM) does to balance the interests; see
    :class:`~genrec_pyg.nn.sequence.InterestSelection`. BaM is ``selection='p'`` or ``'l'`` with
    ``multi_loss=True``.

    A subclass makes ``extractor`` (item rows ``[B, S, d]`` and mask ``[B, S]`` to interests and
    attention) and may implement :meth:`valid_interests`.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities to use.
        hidden_channels: Width ``d``.
        num_interests: Interests ``K``.
        history_length: Most items ``S`` of a history.
        min_history: Fewest items before a training target.
        align: ``'left'``, the oldest item of a history has the first place, as released, or
            ``'right'``, the newest has the last.
        repeats: Whether a repeated interaction occurs in the history several times.
        num_negatives: Negatives ``n``; :obj:`None` takes all items, in blocks.
        negatives: ``'shared'``, drawn once per batch without replacement, or ``'own'``, drawn for
            every target; :obj:`None` is what ``variant`` says.
        mask_hits: Whether a negative that is the target of its row does not count; :obj:`None` is
            what ``variant`` says.
        selection: Which interest learns: ``'hard'``, ``'p'``, ``'l'``, ``'uniform'`` or
            ``'label_aware'``.
        tau: Softness of the selection; 0 is uniform, large is hard.
        power: Power of ``'label_aware'`` attention (MIND, Sec. 3.4), from 1, or 0 for equal
            weights.
        projection_channels: Width of the maps of ``'l'``.
        projection: ``'frozen'`` maps, as released, or ``'learned'`` ones.
        single: ``'sampled'``, the loss of the drawn interest, or ``'expected'``, that of all
            weighted by their shares.
        multi_loss: Whether the multi-interest loss is added.
        beta: Weight of hard negatives (REMI), see :func:`~genrec_pyg.nn.losses.sampled_softmax`.
        detach_weights: Whether those weights are constants for the gradient.
        variant: ``'principled'``, shared negatives without hits, or ``'released'``, what the
            program of BaM computes: own negatives, with hits, and the routing of that program.
            Arguments that are given come first.
        item_side: Where item rows come from, see :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.
    """

    extractor: torch.nn.Module

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_interests: int = 4,
        history_length: int = 50,
        min_history: int = 1,
        align: str = 'left',
        repeats: bool = False,
        num_negatives: int | None = 1280,
        negatives: str | None = None,
        mask_hits: bool | None = None,
        selection: str = 'hard',
        tau: float = 1.0,
        power: float = 1.0,
        projection_channels: int = 16,
        projection: str = 'frozen',
        single: str = 'sampled',
        multi_loss: bool = False,
        beta: float = 0.0,
        detach_weights: bool = False,
        variant: str = 'principled',
        item_side: ItemSide = BY_ID,
    ):
        check_sizes(
            hidden_channels=hidden_channels, num_interests=num_interests, min_history=min_history
        )
        super().__init__(
            data,
            modalities,
            hidden_channels,
            history_length,
            repeats,
            math.sqrt(2 / hidden_channels),
            ItemSide.of(item_side),
        )
        if num_negatives is not None:
            check_sizes(num_negatives=num_negatives)
        check_choice('align', align, ALIGNMENTS)
        check_choice('variant', variant, ('principled', 'released'))
        if negatives is None:
            negatives = 'own' if variant == 'released' else 'shared'
        if mask_hits is None:
            mask_hits = variant != 'released'
        check_choice('negatives', negatives, ('shared', 'own'))
        check_choice('single', single, ('sampled', 'expected'))
        check_range('beta', beta, 0)
        if power != 0 and not 1 <= power < math.inf:
            raise ConfigError(f'power: got {power}, accepted are 0 and finite numbers from 1')
        if selection == 'l' and projection == 'learned' and single == 'sampled':
            raise ConfigError(
                "single: got 'sampled' with projection='learned', accepted is 'expected': no "
                'gradient reaches the maps through a draw'
            )
        self._drawn_negatives: Tensor | None = None
        self.num_interests, self.min_history, self.align = num_interests, min_history, align
        self.num_negatives, self.negatives, self.mask_hits = num_negatives, negatives, mask_hits
        self.selection = InterestSelection(
            selection, hidden_channels, tau, projection_channels, projection
        )
        self.power, self.expected, self.multi_loss = power, single == 'expected', multi_loss
        self.beta, self.detach_weights = beta, detach_weights

    def make_loader(
        self, batch_size: int, sampler: str, steps_per_epoch: int | None = None
    ) -> SequenceLoader:
        r"""Histories with the item that came next."""
        return SequenceLoader(
            self.graph,
            batch_size,
            self.history_length,
            self.min_history,
            sampler,
            steps_per_epoch,
            self.align,
        )

    def valid_interests(self, length: Tensor) -> Tensor | None:
        r"""Interests ``[B, K]`` that users with ``length`` ``[B]`` items have; :obj:`None` for
        all.
        """
        return None

    def interests(self, history: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        r"""Interests ``[B, K, d]`` and attention ``[B, K, S]`` of histories.

        Args:
            history: Items ``[B, S]``, padded by ``I``.
            length: Items in each ``[B]``.
        """
        return self.extractor(self.items.rows(history), history < self.num_items)

    def encode_users(self, history: Tensor, length: Tensor) -> Tensor:
        r"""Interests ``[B, K, d]``; in place of interests that a user does not have stands the
        first.
        """
        found = self.interests(history, length)[0]
        valid = self.valid_interests(length)
        return found if valid is None else torch.where(valid.unsqueeze(2), found, found[:, :1])

    def draw_negatives(self, target: Tensor) -> Tensor:
        r"""Items ``[n]``, or ``[B, n]`` for targets ``[B]``, uniform over all items."""
        if self.negatives == 'own':
            return torch.randint(
                self.num_items, (target.numel(), self.num_negatives), device=target.device
            )
        return torch.randperm(self.num_items, device=target.device)[: self.num_negatives]

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        r"""Terms ``single`` and, where they are on, ``multi``."""
        with self.rows_of_batch(batch):
            return self.ranking_terms(batch, self.interests(batch.history, batch.length)[0])

    @contextmanager
    def rows_of_batch(self, batch: SequenceBatch) -> Iterator[None]:
        r"""Within this context the rows of the items of a batch, and of the negatives drawn for it,
        are looked up.
        """
        drawn = None if self.num_negatives is None else self.draw_negatives(batch.target)
        self._drawn_negatives = drawn
        try:
            with self.items.computed(
                batch.history, batch.target, *([] if drawn is None else [drawn])
            ):
                yield
        finally:
            self._drawn_negatives = None

    def ranking_terms(self, batch: SequenceBatch, interests: Tensor) -> dict[str, Tensor]:
        r"""Softmax losses of the targets of a batch, given its interests ``[B, K, d]``."""
        target = self.items.rows(batch.target)
        valid = self.valid_interests(batch.length)
        positive = (interests @ target.unsqueeze(2)).squeeze(2)
        share, index = self.selection(interests, target, valid)
        if self.num_negatives is None:
            valid = torch.ones_like(share, dtype=torch.bool) if valid is None else valid
            table = self.items()
            items = torch.arange(self.num_items, device=table.device)

            def of_rows(
                interests: Tensor,
                positive: Tensor,
                share: Tensor,
                index: Tensor,
                valid: Tensor,
                target: Tensor,
            ) -> Tensor:
                hit = items == target.unsqueeze(1)
                return self.row_losses(positive, interests @ table.t(), hit, share, index, valid)

            losses = in_row_blocks(
                of_rows,
                (interests, positive, share, index, valid, batch.target),
                self.num_interests * self.num_items,
            )
        else:
            items = (
                self.draw_negatives(batch.target)
                if self._drawn_negatives is None
                else self._drawn_negatives
            )
            rows = self.items.rows(items)
            negative = interests @ (rows.t() if items.dim() == 1 else rows.transpose(1, 2))
            hit = items == batch.target.unsqueeze(1) if self.mask_hits else None
            losses = self.row_losses(positive, negative, hit, share, index, valid)
        return dict(zip(('single', 'multi'), losses.mean(dim=0)))

    def row_losses(
        self,
        positive: Tensor,
        negative: Tensor,
        hit: Tensor | None,
        share: Tensor,
        index: Tensor,
        valid: Tensor | None,
    ) -> Tensor:
        r"""Losses ``[B, 1]``, or ``[B, 2]`` with the multi-interest loss.

        Args:
            positive: Scores of the target under every interest ``[B, K]``.
            negative: Scores of the negatives ``[B, K, n]``.
            hit: Negatives that do not count ``[B, n]``.
            share: Probability with which every interest learns ``[B, K]``.
            index: The interest drawn ``[B]``.
            valid: Interests that the user has ``[B, K]``; :obj:`None` for all.
        """

        def softmax(positive: Tensor, negative: Tensor, hit: Tensor | None) -> Tensor:
            return sampled_softmax(
                positive, negative, mask=hit, beta=self.beta, detach_weights=self.detach_weights
            )

        if self.selection.kind == 'label_aware':
            weight = self.label_aware_weights(positive, valid)
            single = softmax(
                (weight * positive).sum(dim=1), (weight.unsqueeze(1) @ negative).squeeze(1), hit
            )
        elif self.expected:
            each = softmax(positive, negative, None if hit is None else hit.unsqueeze(1))
            single = (share * each).sum(dim=1)
        else:
            row = torch.arange(index.numel(), device=index.device)
            single = softmax(positive[row, index], negative[row, index], hit)
        if not self.multi_loss:
            return single.unsqueeze(1)
        if valid is not None:
            positive = positive.masked_fill(~valid, NO_CANDIDATE)
            negative = negative.masked_fill(~valid.unsqueeze(2), NO_CANDIDATE)
        multi = softmax(positive.logsumexp(dim=1), negative.logsumexp(dim=1), hit)
        return torch.stack([single, multi], dim=1)

    def label_aware_weights(self, score: Tensor, valid: Tensor | None) -> Tensor:
        r"""Attention ``[B, K]`` of a target to interests by its scores ``[B, K]``, raised to
        ``power`` with their sign.
        """
        raised = (
            torch.zeros_like(score) if self.power == 0 else score.sign() * score.abs() ** self.power
        )
        return (raised if valid is None else raised.masked_fill(~valid, NO_CANDIDATE)).softmax(
            dim=1
        )
