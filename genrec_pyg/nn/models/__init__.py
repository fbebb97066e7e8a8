r"""Recommendation models, one file each, in families; :mod:`~genrec_pyg.nn.models.registry` lists
them.
"""

from __future__ import annotations

from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.models.registry import MODELS, Entry, get_model


def __getattr__(name: str):
    if name in MODELS:
        return get_model(name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = ['MODELS', 'Entry', 'Recommender', 'get_model', *MODELS]
