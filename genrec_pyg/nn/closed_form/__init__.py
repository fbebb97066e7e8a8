r"""Item-item models in closed form: kernels of interactions and of features, and graph filters.

Each function makes an :class:`ItemKernel`, which scores rows of interactions; models and fusions
are built from these.
"""

from genrec_pyg.nn.closed_form.content import (
    content_features,
    content_kernel,
    feature_prior_kernel,
)
from genrec_pyg.nn.closed_form.filter import LinearFilter, graph_filter, nearest_items
from genrec_pyg.nn.closed_form.interaction import (
    MAX_LEVERAGE,
    InteractionStatistics,
    LowRankKernelPath,
    dense_interaction_kernel,
    interaction_kernel,
    low_rank_interaction_kernel,
)
from genrec_pyg.nn.closed_form.kernel import HistoryTerm, ItemKernel, dense_rows, neighbor_kernel

__all__ = [
    'MAX_LEVERAGE',
    'HistoryTerm',
    'InteractionStatistics',
    'ItemKernel',
    'LinearFilter',
    'LowRankKernelPath',
    'content_features',
    'content_kernel',
    'dense_rows',
    'dense_interaction_kernel',
    'feature_prior_kernel',
    'graph_filter',
    'interaction_kernel',
    'low_rank_interaction_kernel',
    'nearest_items',
    'neighbor_kernel',
]
