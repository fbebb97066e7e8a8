r"""Exact and approximate search of the best items."""

from genrec_pyg.retrieval.index import (
    INDEXES,
    ApproximateIndex,
    ExactIndex,
    Index,
    Search,
    make_search,
    retrieve,
)

__all__ = [
    'ApproximateIndex',
    'ExactIndex',
    'INDEXES',
    'Index',
    'Search',
    'make_search',
    'retrieve',
]
