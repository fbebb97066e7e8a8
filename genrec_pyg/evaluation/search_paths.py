r"""What is searched of the settings of models in closed form: values, starts and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Setting = dict[str, Any]
Grid = dict[str, Sequence[Any]]

#: Items from which EASE is searched as low rank plus sparse, which is fitted in a fraction of the
#: time.
DENSE_ITEMS = 3000
#: Prefix of the coordinates that are weights of modalities.
MODALITY = 'modality_weights.'

_DISCOUNTS = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_RIDGES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 250.0)
#: Weights of a modality that are tried, where there are several.
MODALITY_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Path:
    r"""What is searched of a model.

    Args:
        fitted: Ordered values of the settings that need another fit.
        adjusted: Ordered values of the settings that do not.
        start: Where the search starts; other settings start from the defaults of the model.
        relative: Settings in units of the mean diagonal of the weighted Gram matrix, by which they
            are multiplied.
        modalities: Whether the weights of the modalities are searched too, where there are several.
        low_rank: Whether the model is searched as low rank plus sparse on graphs of more than
            :data:`DENSE_ITEMS` items, and the dense matrix is tried at the end if the time allows.
        others: Further starts, of which the best on validation is taken: with several maxima one
            start is not enough.
        scan: Whether all values of a fitted setting are tried, for recalls with several maxima
            along it.
    """

    fitted: Grid
    adjusted: Grid = field(default_factory=dict)
    start: Setting = field(default_factory=dict)
    relative: tuple[str, ...] = ()
    modalities: bool = False
    scan: bool = False
    low_rank: bool = False
    others: tuple[Setting, ...] = ()


_EASE = Path(
    {'l2': _RIDGES, 'ridge_power': (0.0, 0.15, 0.3, 0.5), 'row_weight': (0.0, 0.25, 0.5)},
    {'popularity_discount': _DISCOUNTS},
    {'l2': 8.0, 'ridge_power': 0.15, 'row_weight': 0.0, 'popularity_discount': 0.2},
    relative=('l2',),
    low_rank=True,
    others=(
        {'l2': 0.5, 'ridge_power': 0.5, 'popularity_discount': -0.1},
        {'l2': 60.0, 'row_weight': 0.5, 'popularity_discount': 0.0},
    ),
)

#: What is searched, by model.
PATHS: dict[str, Path] = {
    'ItemKNN': Path(
        {
            'k': (10, 20, 50, 100, 200, 500),
            'shrink': (0.0, 10.0, 50.0, 100.0, 500.0, 2000.0, 5000.0),
        },
        start={'k': 100, 'shrink': 10.0},
        scan=True,
    ),
    'EASE': _EASE,
    'GraphFilter': Path(
        {'user_power': (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 'power': (0.4, 0.5, 0.6, 0.7, 0.85, 1.0)},
        {'hops': (1, 2)},
        {'user_power': 0.8, 'power': 0.7, 'hops': 2},
    ),
    'ItemKNNCBF': Path(
        {'k': (5, 10, 20, 50, 100, 200), 'center_features': (False, True)},
        start={'k': 10, 'shrink': 0.0, 'normalize_features': True, 'center_features': True},
        modalities=True,
    ),
    'AddEASE': Path(
        _EASE.fitted,
        {
            'content_weight': (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
            'content_l2': (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
            **_EASE.adjusted,
        },
        {**_EASE.start, 'content_weight': 0.2, 'content_l2': 10.0},
        ('l2',),
        modalities=True,
        low_rank=True,
    ),
    'FeaturePriorEASE': Path(
        {
            'prior_strength': _RIDGES,
            **_EASE.fitted,
            'content_l2': (0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        },
        _EASE.adjusted,
        {**_EASE.start, 'prior_strength': 8.0, 'content_l2': 10.0},
        ('l2', 'prior_strength'),
        modalities=True,
    ),
}
