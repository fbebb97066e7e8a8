r"""Layers, losses and models.

Models and graph convolutions are importable from here, as in :mod:`torch_geometric.nn`; each is
imported on first use.
"""

import importlib


def _public() -> dict[str, str]:
    r"""Returns the module of every exported name."""
    models = importlib.import_module('genrec_pyg.nn.models')
    conv = importlib.import_module('genrec_pyg.nn.conv')
    exported = {name: conv.__name__ for name in conv.__all__ if name[0].isupper()}
    return {**exported, **dict.fromkeys([*models.MODELS, 'Recommender'], models.__name__)}


def __getattr__(name: str):
    # Only classes are looked up: a submodule that is being imported must not import all the others.
    if name[0].isupper():
        module = _public().get(name)
        if module is not None:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})
