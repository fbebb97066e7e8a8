r"""Softmax over the edges of a sparse matrix."""

from __future__ import annotations

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.adjacency import Adjacency


def edge_softmax(graph: Adjacency) -> Adjacency:
    r"""Softmax of the values within every row; for that within columns pass the transpose.

    Args:
        graph: Logits as values ``[R, N]``.

    Returns:
        The same positions; values of a row sum to 1, and a row without entries stays empty.

    Raises:
        ConfigError: If the matrix has no values.
    """
    if graph.value is None:
        raise ConfigError(
            'edge_softmax: got an adjacency without values, accepted is one with logits'
        )
    from torch_geometric.utils import softmax  # here: the kernels are imported without PyG

    return graph.with_value(softmax(graph.value, graph.row(), num_nodes=graph.size[0]))
