r"""CUDA kernels in Triton. Importing this package needs triton; the library reaches it only through
:func:`genrec_pyg.ops.backends.triton_kernels`.

On the CPU they run in Triton's interpreter, slowly, where ``TRITON_INTERPRET=1`` was set before
triton's first import.
"""

from genrec_pyg.ops.triton.contrast import MAX_CHANNELS, log_sum_exp
from genrec_pyg.ops.triton.flip import flip_dense, sample_flips
from genrec_pyg.ops.triton.spmm import normalized_spmm, spmm
from genrec_pyg.ops.triton.topk import MAX_K, masked_topk

__all__ = [
    'MAX_CHANNELS',
    'MAX_K',
    'flip_dense',
    'log_sum_exp',
    'masked_topk',
    'normalized_spmm',
    'sample_flips',
    'spmm',
]
