r"""Transforms from any graph to a canonical, filtered, split and enriched one."""
from genrec_pyg.transforms.clean_features import CleanFeatures, singular_value_threshold
from genrec_pyg.transforms.item_knn_graph import ItemKNNGraph
from genrec_pyg.transforms.k_core import KCore
from genrec_pyg.transforms.map_types import MapTypes
from genrec_pyg.transforms.reorder_nodes import ReorderNodes
from genrec_pyg.transforms.split import LeaveOneOut, RandomSplit, TemporalSplit

__all__ = [
    'CleanFeatures',
    'ItemKNNGraph',
    'KCore',
    'LeaveOneOut',
    'MapTypes',
    'RandomSplit',
    'ReorderNodes',
    'TemporalSplit',
    'singular_value_threshold',
]
