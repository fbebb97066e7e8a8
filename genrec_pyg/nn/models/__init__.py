r"""Recommendation models, one file each, and the registry from which the command lines take them by name."""
from __future__ import annotations

import importlib

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models.recommender import Recommender

#: Command-line name to module; imported on first use, so that one model's imports never delay another's.
MODELS = {
    'GenRec': 'genrec',
    'Popularity': 'popularity',
    'ItemKNN': 'item_knn',
    'EASE': 'ease',
    'MFBPR': 'mf_bpr',
    'LightGCN': 'light_gcn',
    'SGL': 'sgl',
    'NGCF': 'ngcf',
    'NCL': 'ncl',
    'HCCF': 'hccf',
    'CLCRec': 'clcrec',
    'MMGCL': 'mmgcl',
    'LayerGCN': 'layer_gcn',
    'SELFCFED': 'selfcfed',
    'VBPR': 'vbpr',
    'BM3': 'bm3',
    'FREEDOM': 'freedom',
    'MGCN': 'mgcn',
    'DiffMM': 'diffmm',
}


def get_model(name: str) -> type[Recommender]:
    r"""The model class called ``name``.

    Raises:
        ConfigError: If there is none; the message lists the names.
    """
    if name not in MODELS:
        raise ConfigError(f"model: got {name!r}, accepted are {', '.join(MODELS)}")
    return getattr(importlib.import_module(f'{__name__}.{MODELS[name]}'), name)


def __getattr__(name: str):
    if name in MODELS:
        return get_model(name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = ['MODELS', 'Recommender', 'get_model', *MODELS]
