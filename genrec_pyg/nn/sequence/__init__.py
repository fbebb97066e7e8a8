r"""Layers over sequences of items: causal attention, interests and their selection."""

from genrec_pyg.nn.sequence.attention import CausalTransformer
from genrec_pyg.nn.sequence.interests import (
    SELECTIONS,
    DynamicRouting,
    InterestSelection,
    SelfAttentiveInterests,
    routing_penalty,
    squash,
)

__all__ = [
    'CausalTransformer',
    'DynamicRouting',
    'InterestSelection',
    'SELECTIONS',
    'SelfAttentiveInterests',
    'routing_penalty',
    'squash',
]
