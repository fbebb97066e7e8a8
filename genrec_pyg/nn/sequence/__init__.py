r"""Layers over sequences of items: causal attention, interests and their selection, rows of items."""
from genrec_pyg.nn.sequence.attention import CausalTransformer
from genrec_pyg.nn.sequence.interests import (
    SELECTIONS,
    DynamicRouting,
    InterestSelection,
    SelfAttentiveInterests,
    routing_penalty,
    squash,
)
from genrec_pyg.nn.sequence.items import ItemTable

__all__ = ['CausalTransformer', 'DynamicRouting', 'InterestSelection', 'ItemTable', 'SELECTIONS', 'SelfAttentiveInterests',
           'routing_penalty', 'squash']
