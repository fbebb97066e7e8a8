r"""Item-item similarity graphs."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, check_graph, item_modality, name_list, select_modalities
from genrec_pyg.ops import knn_graph, knn_weights
from genrec_pyg.transforms.base import GraphTransform


@functional_transform('item_knn_graph')
class ItemKNNGraph(GraphTransform):
    r"""Adds a frozen item-item graph per modality (`GenRec-V1, ACM MM 2025
    <https://doi.org/10.1145/3746027.3755734>`_) as edge type
    ``('item', f'{m}_knn', 'item')`` with ``edge_index`` and ``edge_weight``.

    Each item points to the ``k`` items of highest cosine similarity :math:`s_{ij}`, itself
    included, with weight :math:`w_{ij} = s_{ij} / \sqrt{d_i d_j}`, :math:`d_i = \sum_j s_{ij}` over
    kept items. The similarity is computed in row blocks. An item with several nodes is compared by
    their mean; an item without a node has only its self edge.

    Args:
        k: Neighbors per item, the item itself included.
        modalities: Modalities to take; :obj:`None` takes all.
        block_size: Items per row block.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1 or a modality is not in the graph.
        DataError: If the graph is not canonical or features are not finite.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import ItemKNNGraph
        >>> data = ItemKNNGraph(k=2)(toy_graph())
        >>> [relation for source, relation, target in data.edge_types]
        ['interacts', 'has', 'has', 'image_knn', 'text_knn']
    """

    def __init__(
        self, k: int = 5, modalities: str | Iterable[str] | None = None, block_size: int = 1024
    ):
        for name, value in (('k', k), ('block_size', block_size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f'{name}: got {value!r}, accepted is a positive integer')
        self.k = k
        self.modalities = name_list(modalities)
        self.block_size = block_size

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, disjoint=False)
        num_items = int(data[ITEM].num_nodes)
        for name in select_modalities(data, self.modalities):
            features = item_modality(data, name).item_features()
            edge_index, similarity = knn_graph(
                features, self.k, include_self=True, block_size=self.block_size
            )
            store = data[ITEM, f'{name}_knn', ITEM]
            store.edge_index = edge_index
            store.edge_weight = knn_weights(edge_index, similarity, num_items)
        return data
