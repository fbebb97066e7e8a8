r"""Transforms from any graph to a canonical, filtered, split and enriched one."""
from genrec_pyg.transforms.clean_features import CleanFeatures
from genrec_pyg.transforms.encode import EncodeBag, EncodeImages, EncodeText
from genrec_pyg.transforms.item_knn_graph import ItemKNNGraph
from genrec_pyg.transforms.k_core import KCore
from genrec_pyg.transforms.map_types import MapTypes
from genrec_pyg.transforms.perturb import AddFeatureNoise, AddNoiseInteractions, DropModality, ShuffleFeatures
from genrec_pyg.transforms.reorder_nodes import ReorderNodes
from genrec_pyg.transforms.split import ColdItemSplit, LeaveOneOut, RandomSplit, TemporalSplit, UserSplit

__all__ = [
    'AddFeatureNoise',
    'AddNoiseInteractions',
    'CleanFeatures',
    'ColdItemSplit',
    'DropModality',
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
