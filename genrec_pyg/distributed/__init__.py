r"""The work of an epoch divided among processes: layouts of rows and columns, exchanges, and what
they cost.

Layers and models see one object, their ``layout``; :mod:`genrec_pyg.training` decides which.
"""

from genrec_pyg.distributed.collectives import Group, traffic
from genrec_pyg.distributed.grid import Grid, check_grid, parse_grid
from genrec_pyg.distributed.keyed import keyed_dropout
from genrec_pyg.distributed.layout import WHOLE, GridLayout, WholeLayout, set_layout
from genrec_pyg.distributed.norm import shared_batch_norm

__all__ = [
    'WHOLE',
    'Grid',
    'GridLayout',
    'Group',
    'WholeLayout',
    'check_grid',
    'keyed_dropout',
    'parse_grid',
    'set_layout',
    'shared_batch_norm',
    'traffic',
]
