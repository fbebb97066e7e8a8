r"""Message passing layers on the sparse kernels."""

from genrec_pyg.nn.conv.light_conv import ItemGraphConv, LightConv, ModalityConv
from genrec_pyg.nn.conv.ngcf_conv import NGCFConv
from genrec_pyg.nn.conv.sparse_conv import SparseConv

__all__ = ['ItemGraphConv', 'LightConv', 'ModalityConv', 'NGCFConv', 'SparseConv']
