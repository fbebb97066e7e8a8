r"""Transforms from any graph to a canonical, filtered, split and enriched one.

Those that encode are imported on first use: encoders read files by :mod:`genrec_pyg.datasets`,
whose splits are here.
"""

import importlib

from genrec_pyg.transforms.clean_features import CleanFeatures
from genrec_pyg.transforms.item_knn_graph import ItemKNNGraph
from genrec_pyg.transforms.k_core import KCore
from genrec_pyg.transforms.map_types import MapTypes
from genrec_pyg.transforms.perturb import (
    AddFeatureNoise,
    AddNoiseInteractions,
    DropModality,
    ShuffleFeatures,
)
from genrec_pyg.transforms.reorder_nodes import ReorderNodes
from genrec_pyg.transforms.split import (
    ColdItemSplit,
    LeaveOneOut,
    RandomSplit,
    TemporalSplit,
    UserSplit,
)

__all__ = [
    'AddFeatureNoise',
    'AddNoiseInteractions',
    'CleanFeatures',
    'ColdItemSplit',
    'DropModality',
    'EncodeAudio',
    'EncodeBag',
    'EncodeImages',
    'EncodeText',
    'ItemKNNGraph',
    'KCore',
    'LeaveOneOut',
    'MapTypes',
    'RandomSplit',
    'ReorderNodes',
    'ShuffleFeatures',
    'TemporalSplit',
    'UserSplit',
]


def __getattr__(name: str):
    if name in ('EncodeAudio', 'EncodeBag', 'EncodeImages', 'EncodeText'):
        return getattr(importlib.import_module('genrec_pyg.transforms.encode'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
