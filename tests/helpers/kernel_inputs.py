"""Inputs for the kernels of :mod:`genrec_pyg.ops.triton`: on the GPU where there is one, else for
Triton's interpreter.

Single precision is compared with formulas in double precision at a relative error of 1e-5, as for
the kernels of the CPU.
"""

import torch

from genrec_pyg.ops import Adjacency

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
CLOSE = {'rtol': 1e-5, 'atol': 1e-5}


def skewed(rows, cols, symmetric=False, dtype=torch.float32):
    """A full row, a full column, empty rows and columns, few entries elsewhere."""
    dense = torch.rand(rows, cols, dtype=torch.float64) * (torch.rand(rows, cols) < 0.15)
    dense[1], dense[:, 2] = torch.rand(cols), torch.rand(rows)
    dense[[0, 3, rows - 1]] = 0
    dense[:, [0, cols - 1]] = 0
    if symmetric:
        dense = (dense + dense.t()) * (dense * dense.t() != 0)
    edge_index = dense.nonzero().t()
    adj = Adjacency.from_edge_index(
        edge_index, dense[edge_index[0], edge_index[1]].to(dtype), (rows, cols), symmetric
    )
    return dense, adj.to(DEVICE)


def plain(found):
    return found.detach().cpu().double()


def binary(rows, cols, share=0.1):
    x = (torch.rand(rows, cols) < share).long().to(DEVICE)
    return x, torch.cat([x.new_zeros(1), x.sum(dim=1).cumsum(0)]), x.nonzero()[:, 1]
