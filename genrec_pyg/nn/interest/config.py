r"""Settings of a generated interest and of its part in a score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.validation import check_range

#: A number, or ``'auto'``: found on validation.
Auto = float | str


@dataclass(frozen=True)
class InterestConfig:
    r"""Generated interest; what is ``'auto'`` is found on validation.

    Args:
        weight: Weight in [0, 1] of the interest in the score of a model, or ``'auto'``.
        ridge: Ridge of the flip schedule, see :class:`~genrec_pyg.nn.interest.FlipSchedule`.
        ridge_power: Power of the popularity in the ridge.
        row_weight: By how much long histories count less.
        discount: Power of the popularity that divides a generated interest.
        view_weights: ``'auto'``, or weights of the views ``'kernel'``, ``'low_rank'``,
            ``'filter'``, ``'two_hop'`` and, of each modality, ``NAME`` (nearest items),
            ``NAME_ridge`` and ``NAME_fine_ridge`` (regression on features with much and little
            ridge); those that are not named are 0.
        rank: Rank of the low-rank part; up to four times as many items the interest is kept whole.
        num_neighbors: Fewest sparse entries per item; more where that brings recall, 0 for none.
        max_items: Most items for which dense matrices of items x items are used on the way; about
            ``12 * max_items ** 2`` bytes.
    """

    weight: Auto = 'auto'
    ridge: Auto = 'auto'
    ridge_power: Auto = 'auto'
    row_weight: Auto = 'auto'
    discount: Auto = 'auto'
    view_weights: str | dict[str, float] = 'auto'
    rank: int = 256
    num_neighbors: int = 20
    max_items: int = 8_000

    def __post_init__(self) -> None:
        for name in ('ridge', 'ridge_power', 'row_weight', 'discount'):
            value = getattr(self, name)
            if value != 'auto' and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ConfigError(f"{name}: got {value!r}, accepted are 'auto' and numbers")
        if self.weight != 'auto' and not (
            isinstance(self.weight, (int, float)) and 0 <= self.weight <= 1
        ):
            raise ConfigError(
                f"weight: got {self.weight!r}, accepted are 'auto' and numbers in [0, 1]"
            )
        if self.ridge != 'auto' and not self.ridge > 0:
            raise ConfigError(f"ridge: got {self.ridge}, accepted are 'auto' and positive numbers")
        check_range('rank', self.rank, 1)
        check_range('num_neighbors', self.num_neighbors, 0)
        check_range('max_items', self.max_items, 0)
        weights = self.view_weights
        if isinstance(weights, str):
            if weights != 'auto':
                raise ConfigError(
                    f"view_weights: got {weights!r}, accepted are 'auto' and a weight per view"
                )
        elif not (all(value >= 0 for value in weights.values()) and any(weights.values())):
            raise ConfigError(
                f'view_weights: got {weights}, accepted are weights from 0, of which one is '
                'positive'
            )

    @property
    def is_pinned(self) -> bool:
        r"""Whether nothing is left to choose of the interest itself."""
        return 'auto' not in (
            self.ridge,
            self.ridge_power,
            self.row_weight,
            self.discount,
            self.view_weights,
        )
