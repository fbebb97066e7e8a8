r"""An order of pairs that means nothing."""
from __future__ import annotations

import numpy as np


def mix(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    r"""A key ``[E]`` that orders pairs of numbers without regard to either (splitmix64, `Steele et al., OOPSLA 2014
    <https://doi.org/10.1145/2660193.2660195>`_): by item, the highest would always be the last of a session."""
    key = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + item.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key
