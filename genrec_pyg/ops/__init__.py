r"""Sparse kernels. They know nothing of models; nothing of size users x items or items x items is
ever held.
"""

from genrec_pyg.ops.adjacency import Adjacency, DividedAdjacency
from genrec_pyg.ops.backends import BACKENDS, DEFAULT_BACKENDS
from genrec_pyg.ops.column_blocks import use_column_blocks
from genrec_pyg.ops.contrast import info_nce, softmax_against_bank, unit_info_nce, unit_rows
from genrec_pyg.ops.cooccurrence import cooccurrence, cooccurrence_graph
from genrec_pyg.ops.edges import edge_softmax
from genrec_pyg.ops.eigen import block_krylov_svd, leading_eigenpairs
from genrec_pyg.ops.flip import flip_dense, released_flip_probability, sample_flips
from genrec_pyg.ops.knn import knn_graph
from genrec_pyg.ops.negative import NegativeSampler
from genrec_pyg.ops.normalize import (
    bipartite_adjacency,
    bipartite_block,
    knn_adjacency,
    knn_weights,
    random_walk_adjacency,
    symmetric_scale,
)
from genrec_pyg.ops.spmm import layer_mean, normalized_layer_mean, sampled_product, spmm
from genrec_pyg.ops.svd import singular_value_threshold
from genrec_pyg.ops.topk import masked_topk, rows_per_block, topk_excluding

__all__ = [
    'BACKENDS',
    'DEFAULT_BACKENDS',
    'Adjacency',
    'DividedAdjacency',
    'NegativeSampler',
    'bipartite_adjacency',
    'bipartite_block',
    'block_krylov_svd',
    'cooccurrence',
    'cooccurrence_graph',
    'edge_softmax',
    'flip_dense',
    'info_nce',
    'knn_adjacency',
    'knn_graph',
    'knn_weights',
    'layer_mean',
    'leading_eigenpairs',
    'masked_topk',
    'normalized_layer_mean',
    'random_walk_adjacency',
    'released_flip_probability',
    'rows_per_block',
    'sample_flips',
    'sampled_product',
    'singular_value_threshold',
    'softmax_against_bank',
    'spmm',
    'symmetric_scale',
    'topk_excluding',
    'unit_info_nce',
    'unit_rows',
    'use_column_blocks',
]
