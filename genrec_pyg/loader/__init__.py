r"""Loaders: training interactions with negatives, sampled neighborhoods, user rows, and
sequences.
"""

from genrec_pyg.loader.neighborhood import LayerNeighborSampler, Neighborhood
from genrec_pyg.loader.sequences import (
    SequenceBatch,
    SequenceLoader,
    Sequences,
    WindowBatch,
    WindowLoader,
)
from genrec_pyg.loader.triples import InteractionLoader, Triples
from genrec_pyg.loader.user_rows import UserRowLoader, UserRows

__all__ = [
    'InteractionLoader',
    'LayerNeighborSampler',
    'Neighborhood',
    'SequenceBatch',
    'SequenceLoader',
    'Sequences',
    'Triples',
    'UserRowLoader',
    'UserRows',
    'WindowBatch',
    'WindowLoader',
]
