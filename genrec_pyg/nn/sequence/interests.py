r"""Several interests per user: how they come from a history, and which of them learns from a
target.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import linear, pad

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.losses import NO_CANDIDATE
from genrec_pyg.utils.precision import widened

#: Ways to choose the interest that learns from a target.
SELECTIONS = ('hard', 'p', 'l', 'uniform', 'label_aware')
_SQUASH_EPS = 1e-9


def he_normal_(weight: Tensor) -> None:
    r"""Fills a tensor of several axes with a normal of variance 2 over the size of all axes but the
    first.
    """
    torch.nn.init.normal_(weight, std=math.sqrt(2 / weight[0].numel()))


def squash(z: Tensor) -> Tensor:
    r"""Shortens vectors ``[..., d]`` to a length below 1:
    :math:`\frac{\Vert z \Vert^2}{1 + \Vert z \Vert^2} \frac{z}{\Vert z \Vert}` (Sabour et al.,
    NeurIPS 2017, Eq. 1, https://arxiv.org/abs/1710.09829).
    """
    square = z.square().sum(dim=-1, keepdim=True)
    return square / (1 + square) * z / (square + _SQUASH_EPS).sqrt()


class SelfAttentiveInterests(torch.nn.Module):
    r"""Interests by self-attention over positions (ComiRec-SA: Cen et al., KDD 2020, Eqs. 6 to 8,
    https://arxiv.org/abs/2005.09347).

    .. math::
        \mathbf{A} = \mathrm{softmax} \bigl( \mathbf{W}_2 \tanh(\mathbf{W}_1 (\mathbf{H}
        + \mathbf{P})^\top) \bigr), \qquad \mathbf{M} = \mathbf{A} \mathbf{H}

    Positions enter the attention only; an interest is a convex combination of item rows. A row
    without any item gives zeros.

    Args:
        channels: Width ``d``.
        num_interests: Interests ``K``.
        num_positions: Width of histories ``S``.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.sequence import SelfAttentiveInterests
        >>> extractor = SelfAttentiveInterests(channels=8, num_interests=4, num_positions=5)
        >>> rows, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
        >>> interests, attention = extractor(rows, mask)
        >>> interests.shape, attention.shape
        (torch.Size([2, 4, 8]), torch.Size([2, 4, 5]))
    """

    def __init__(self, channels: int, num_interests: int, num_positions: int):
        super().__init__()
        self.position = Parameter(torch.empty(1, num_positions, channels))
        self.hidden = Linear(channels, 4 * channels, bias=False)
        self.interest = Linear(4 * channels, num_interests, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws positions and both maps."""
        for weight in (self.position, self.hidden.weight, self.interest.weight):
            he_normal_(weight)

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        r"""Interests ``[B, K, d]`` and attention ``[B, K, S]`` of histories.

        Args:
            rows: Item rows ``[B, S, d]``, zero at padding.
            mask: Positions that hold an item ``[B, S]``.
        """
        # tanh(x) = 2 sigmoid(2 x) - 1: the sigmoid takes a fraction of the time, and the constant
        # cancels in the softmax.
        hidden = linear(rows + self.position[:, : rows.size(1)], 2 * self.hidden.weight).sigmoid()
        logits = widened(2 * self.interest(hidden)).transpose(1, 2)
        # Finite, so that a row of padding alone has a gradient of zero rather than none.
        logits = logits.masked_fill(~mask.unsqueeze(1), NO_CANDIDATE)
        attention = logits.softmax(dim=2) * mask.unsqueeze(1)
        return attention.to(rows) @ rows, attention


class DynamicRouting(torch.nn.Module):
    r"""Interests by behavior-to-interest dynamic routing (MIND: Li et al., CIKM 2019, Sec. 3.3,
    https://arxiv.org/abs/1904.08030).

    One bilinear map :math:`\hat{\mathbf{H}} = \mathbf{H} \mathbf{W}` serves all pairs; logits start
    from noise, without which all interests would be equal for ever, and in every round

    .. math::
        \mathbf{w} = \mathrm{softmax}(\mathbf{b}), \quad
        \mathbf{v}_k = \mathrm{squash} \Bigl( \sum_i w_{ki} \hat{\mathbf{h}}_i \Bigr), \quad
        b_{ki} \leftarrow b_{ki} + \hat{\mathbf{h}}_i \cdot \mathbf{v}_k

    Only the last round has a gradient. In training the noise is drawn once per batch; otherwise it
    is a buffer, so that scores repeat.

    Args:
        channels: Width ``d``.
        num_interests: Interests ``K``.
        num_positions: Width of histories ``S``.
        rounds: Number of rounds.
        axis: ``'interest'``, every item distributes itself over the interests, as the paper means
            it; or ``'position'``, every interest over the items, as REMI and BaM compute it.
        renormalize: Under ``'position'``, whether padding takes no share; REMI and BaM let it, and
            drop its share.
        std: Standard deviation of the noise.
        relu_layer: Whether a layer with ReLU follows.

    Raises:
        ConfigError: If ``rounds`` is below 1, ``axis`` unknown or ``std`` not positive.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.sequence import DynamicRouting
        >>> routing = DynamicRouting(channels=8, num_interests=4, num_positions=5, rounds=3)
        >>> rows, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
        >>> routing(rows, mask)[0].shape
        torch.Size([2, 4, 8])
    """

    def __init__(
        self,
        channels: int,
        num_interests: int,
        num_positions: int,
        rounds: int = 3,
        axis: str = 'interest',
        renormalize: bool = True,
        std: float = 1.0,
        relu_layer: bool = False,
    ):
        super().__init__()
        if rounds < 1:
            raise ConfigError(f'routing_rounds: got {rounds}, accepted are integers from 1')
        if axis not in ('interest', 'position'):
            raise ConfigError(f"routing_axis: got {axis!r}, accepted are 'interest' and 'position'")
        if not std > 0:
            raise ConfigError(f'routing_std: got {std}, accepted are positive numbers')
        self.rounds, self.axis, self.renormalize, self.std = rounds, axis, renormalize, std
        self.bilinear = Linear(channels, channels, bias=False)
        self.relu_layer = Linear(channels, channels) if relu_layer else None
        self.register_buffer('start', torch.empty(num_interests, num_positions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws the map, and the noise of the evaluation by a seed of its own."""
        he_normal_(self.bilinear.weight)
        if self.relu_layer is not None:
            he_normal_(self.relu_layer.weight)
            torch.nn.init.zeros_(self.relu_layer.bias)
        noise = torch.randn(self.start.shape, generator=torch.Generator().manual_seed(0))
        self.start.copy_(self.std * noise)

    def forward(
        self, rows: Tensor, mask: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Interests ``[B, K, d]`` and routing weights ``[B, K, S]`` of histories.

        Args:
            rows: Item rows ``[B, S, d]``.
            mask: Positions that hold an item ``[B, S]``.
            start: Logits to start from ``[K, S]`` or ``[B, K, S]``, in place of noise.
        """
        if start is None:
            start = self.std * torch.randn_like(self.start) if self.training else self.start
        # padding takes its share in narrower rows too
        if self.axis == 'position' and not self.renormalize:
            missing = self.start.size(1) - rows.size(1)
            rows, mask = pad(rows, (0, 0, 0, missing)), pad(mask, (0, missing))
        mapped = self.bilinear(rows)
        fixed = mapped.detach()
        logits = start[..., : rows.size(1)].to(mapped).expand(rows.size(0), -1, -1)
        for _ in range(self.rounds - 1):
            capsule = squash(self._weights(logits, mask) @ fixed)
            logits = logits + capsule @ fixed.transpose(1, 2)
        weights = self._weights(logits, mask)
        interests = squash(weights @ mapped)
        return interests if self.relu_layer is None else self.relu_layer(interests).relu(), weights

    def _weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        mask = mask.unsqueeze(1)
        if self.axis == 'interest':
            return logits.softmax(dim=1) * mask
        if self.renormalize:
            logits = logits.masked_fill(~mask, NO_CANDIDATE)
        return logits.softmax(dim=2) * mask


class Selected(NamedTuple):
    r"""Which interest learns from each target.

    Args:
        share: Probability of every interest ``[B, K]``, one-hot under ``'hard'``.
        index: The interest drawn ``[B]``.
    """

    share: Tensor
    index: Tensor


class InterestSelection(torch.nn.Module):
    r"""Chooses the interest that learns from a target (BaM: Lee, Yun and Kang, BigData 2024,
    https://github.com/snudatalab/BaM).

    ===============  ================================================  =============================
    ``kind``         correlation :math:`c_k` of interest and target    interest
    ===============  ================================================  =============================
    ``hard``         :math:`\mathbf{m}_k \cdot \mathbf{e}`             the largest, first on ties
    ``p``            :math:`\mathbf{m}_k \cdot \mathbf{e}`             drawn by :math:`\pi`
    ``l``            :math:`(\mathbf{W}_a \mathbf{m}_k + \mathbf{a})
                     \cdot (\mathbf{W}_b \mathbf{e} + \mathbf{b})`     drawn by :math:`\pi`
    ``uniform``      0                                                 drawn, the control of both
    ===============  ================================================  =============================

    where :math:`\pi = \mathrm{softmax}(\tau c)`.

    No gradient flows through the draw, so the maps of ``'l'`` stay what they were drawn as (as
    published) unless ``projection`` is ``'learned'``, which needs the expected loss.

    Args:
        kind: A name of the table, or ``'label_aware'`` for the attention of MIND, which has no
            draw.
        channels: Width ``d``.
        tau: :math:`\tau`; 0 is uniform, large is hard.
        projection_channels: Width of the maps of ``'l'``.
        projection: ``'frozen'`` or ``'learned'``.

    Raises:
        ConfigError: On arguments outside their accepted values.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.sequence import InterestSelection
        >>> soft = InterestSelection('p', channels=2, tau=1.0)
        >>> interests, target = torch.eye(2).unsqueeze(0), torch.tensor([[1.0, 0.0]])
        >>> soft.shares(interests, target)
        tensor([[0.7311, 0.2689]])
    """

    def __init__(
        self,
        kind: str,
        channels: int,
        tau: float = 1.0,
        projection_channels: int = 16,
        projection: str = 'frozen',
    ):
        super().__init__()
        if kind not in SELECTIONS:
            raise ConfigError(
                f'selection: got {kind!r}, accepted are {", ".join(map(repr, SELECTIONS))}'
            )
        if not 0 <= tau < math.inf:
            raise ConfigError(f'tau: got {tau}, accepted are finite numbers from 0')
        if projection not in ('frozen', 'learned'):
            raise ConfigError(
                f"projection: got {projection!r}, accepted are 'frozen' and 'learned'"
            )
        if projection_channels < 1:
            raise ConfigError(
                f'projection_channels: got {projection_channels}, accepted are integers from 1'
            )
        self.kind, self.tau = kind, tau
        self.learned = kind == 'l' and projection == 'learned'
        self.of_interest = self.of_target = None
        if kind == 'l':
            self.of_interest = Linear(channels, projection_channels)
            self.of_target = Linear(channels, projection_channels)
            for parameter in self.parameters():
                parameter.requires_grad_(self.learned)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws the maps of ``'l'``, biases 0."""
        for layer in (self.of_interest, self.of_target):
            if layer is not None:
                he_normal_(layer.weight)
                torch.nn.init.zeros_(layer.bias)

    def shares(self, interests: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        r"""Probability ``[B, K]`` with which every interest learns.

        Args:
            interests: Interests ``[B, K, d]``.
            target: Rows of the targets ``[B, d]``.
            valid: Interests that a user has ``[B, K]``; all by default.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learned):
            if self.kind == 'l':
                correlation = (
                    self.of_interest(interests) * self.of_target(target).unsqueeze(1)
                ).sum(dim=2)
            elif self.kind == 'uniform':
                correlation = interests.new_zeros(interests.shape[:2])
            else:
                correlation = (interests @ target.unsqueeze(2)).squeeze(2)
            if valid is not None:
                correlation = correlation.masked_fill(~valid, NO_CANDIDATE)
            if self.kind in ('hard', 'label_aware'):
                return torch.nn.functional.one_hot(
                    correlation.argmax(dim=1), correlation.size(1)
                ).to(correlation)
            # A product with 0 would keep what is no interest.
            scaled = self.tau * correlation
            return (scaled if valid is None else scaled.masked_fill(~valid, NO_CANDIDATE)).softmax(
                dim=1
            )

    def forward(self, interests: Tensor, target: Tensor, valid: Tensor | None = None) -> Selected:
        r"""Shares, as :meth:`shares`, and one interest per target drawn from the global random
        state.
        """
        share = self.shares(interests, target, valid)
        if self.kind in ('hard', 'label_aware'):
            return Selected(share, share.argmax(dim=1))
        return Selected(share, torch.multinomial(share.detach(), 1).squeeze(1))


def routing_penalty(attention: Tensor, channels: int, mask: Tensor | None = None) -> Tensor:
    r"""Keeps an interest from resting on one item (REMI: Xie et al., RecSys 2023, Sec. 4.3,
    https://doi.org/10.1145/3604915.3608766), summed over the batch.

    .. math::
        \sum_b \sum_k v_{bk}^2, \qquad v_{bk} = \frac{1}{d} \sum_i (A_{bki} - \bar{A}_{bk})^2

    Args:
        attention: Attention ``[B, K, S]``.
        channels: The divisor ``d``, width of the model.
        mask: Positions ``[B, S]`` that count. :obj:`None` counts padding too, as published: a short
            history then pays even if its weights are even.
    """
    if mask is None:
        spread = (attention - attention.mean(dim=2, keepdim=True)).square()
    else:
        mask = mask.unsqueeze(1)
        mean = (attention * mask).sum(dim=2, keepdim=True) / mask.sum(dim=2, keepdim=True).clamp(
            min=1
        )
        spread = (attention - mean).square() * mask
    return (spread.sum(dim=2) / channels).square().sum()
