r"""Item sides: learned rows, maps of features, encoders of content, and both together."""

from genrec_pyg.nn.items.encoded import EncodedRows
from genrec_pyg.nn.items.features import FeatureRows
from genrec_pyg.nn.items.fusion import FUSIONS, FusedRows
from genrec_pyg.nn.items.nodes import NodeRows
from genrec_pyg.nn.items.side import BY_ID, KINDS, ItemSide, make_items
from genrec_pyg.nn.items.table import ItemRows, ItemTable

__all__ = [
    'BY_ID',
    'EncodedRows',
    'FUSIONS',
    'FeatureRows',
    'FusedRows',
    'ItemRows',
    'ItemSide',
    'ItemTable',
    'KINDS',
    'NodeRows',
    'make_items',
]
