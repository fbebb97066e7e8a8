r"""Mapping of graphs with other type names to the canonical graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.typing import EdgeType
from torch_geometric.utils import is_sparse

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import (
    HAS,
    INTERACTS,
    ITEM,
    MASKS,
    SPLITS,
    USER,
    check_graph,
    name_list,
    pair_keys,
    read_mask,
)
from genrec_pyg.graph.containers import EDGE_KEYS, as_dense, num_rows, read_edge_index
from genrec_pyg.transforms.base import GraphTransform
from genrec_pyg.transforms.selection import plain_edges

logger = logging.getLogger(__name__)

Relation = str | EdgeType
#: Links of PyG's splits, with labels or, where it splits them, as positives; negatives are dropped
#: with either.
LINK_KEYS = ('edge_label_index', 'pos_edge_label_index')
LABEL_KEYS = ('edge_label', 'pos_edge_label', 'neg_edge_label', 'neg_edge_label_index', *LINK_KEYS)


@functional_transform('map_types')
class MapTypes(GraphTransform):
    r"""Maps a :class:`~torch_geometric.data.HeteroData` with any type names to the canonical graph
    of :mod:`genrec_pyg.graph`.

    .. code-block:: python

        # ('user', 'rates', 'movie'), movie.x becomes the modality 'content'
        MapTypes(item='movie')(MovieLens(root)[0])
        MapTypes(item='book')(AmazonBook(root)[0])    # edge_label_index becomes the test split
        MapTypes()(Taobao(root)[0])                   # ('user', 'to', 'item')

    Interactions keep all their attributes. Edge types from items to users (reverse edges) are
    dropped: models derive both directions from the training edges. Other node and edge types are
    kept under their names, with renamed ends; no model reads them. Node counts that are not stated
    are taken from features, else from the largest id.

    Args:
        user: Node type of the users.
        item: Node type of the items.
        rel: Relation of the interactions, or whole edge type; :obj:`None` takes ``'interacts'``
            where it exists, else the only relation from users to items.
        item_x: Name of the modality that takes the features ``data[item].x``, one node per item;
            :obj:`None` leaves them where they are, unseen by models.
        modalities: Further modalities from node types linked with the items: a mapping of modality
            to relation (or edge type), or a list of node types that become modalities of the same
            name. Edge types ``(item, 'has', m)`` are modalities without being named.
        label_split: Split (``'train'``, ``'val'`` or ``'test'``) to which links in
            ``edge_label_index`` (or ``pos_edge_label_index``) of the interactions are added;
            :obj:`None` drops them. Links with ``edge_label`` zero are negative samples, links that
            are also in ``edge_index`` would leak: both are dropped. Without a ``train_mask``, all
            edges outside the other masks become training edges. Edge attributes of which the links
            have no value are dropped with a warning.

    Raises:
        ConfigError: If a name is not in the graph, is ambiguous or collides with another.
        DataError: If the mapped graph is not canonical (ids out of range, feature rows that do not
            match).

    Examples:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from genrec_pyg.transforms import MapTypes
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['movie'].x = 2, torch.randn(3, 4)
        >>> data['user', 'rates', 'movie'].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> MapTypes(item='movie', item_x='content')(data).edge_types
        [('user', 'interacts', 'item'), ('item', 'has', 'content')]
    """

    def __init__(
        self,
        user: str = USER,
        item: str = ITEM,
        rel: Relation | None = None,
        item_x: str | None = 'content',
        modalities: Mapping[str, Relation] | Sequence[str] | None = None,
        label_split: str | None = 'test',
    ):
        if label_split is not None and label_split not in SPLITS:
            raise ConfigError(
                f'label_split: got {label_split!r}, accepted are {", ".join(SPLITS)} and None'
            )
        if user == item:
            raise ConfigError(f'user and item: got {user!r} for both, accepted are two node types')
        if isinstance(modalities, str):
            raise ConfigError(
                f'modalities: got {modalities!r}, accepted are a list of node types or a mapping'
            )
        self.user = user
        self.item = item
        self.rel = rel
        self.item_x = item_x
        self.modalities = (
            dict(modalities) if isinstance(modalities, Mapping) else name_list(modalities)
        )
        self.label_split = label_split

    def forward(self, data: HeteroData) -> HeteroData:
        for argument, node_type in (('user', self.user), ('item', self.item)):
            if node_type not in _node_types(data):
                raise ConfigError(
                    f'{argument}: the graph has no node type {node_type!r}, found '
                    f'{_node_types(data)}'
                )
        interactions = self._interactions(data)
        links = self._modality_links(data)
        for edge_type in (interactions, *links.values()):
            _check_edges(data, edge_type)
            plain_edges(data, edge_type)
        renamed = {
            self.user: USER,
            self.item: ITEM,
            **{source[2]: name for name, source in links.items()},
        }

        out = HeteroData()
        for key, value in data.stores[0].items():  # the store of the whole graph
            setattr(out, key, value)
        for node_type in dict.fromkeys([self.user, self.item, *_node_types(data)]):
            names = [name for name, source in links.items() if source[2] == node_type]
            for name in names or [renamed.get(node_type, node_type)]:
                _copy_store(data[node_type] if node_type in data.node_types else {}, out, name)
                out[name].num_nodes = _num_nodes(data, node_type)
        self._add_interactions(data[interactions], out)
        for name, source in links.items():
            _copy_store(data[source], out, (ITEM, HAS, name))
            out[ITEM, HAS, name].edge_index = as_dense(data[source].edge_index).long()
        for edge_type in data.edge_types:
            src, rel, dst = edge_type
            if (
                edge_type == interactions
                or edge_type in links.values()
                or (src, dst) == (self.item, self.user)
            ):
                continue
            target = (renamed.get(src, src), rel, renamed.get(dst, dst))
            if target in out.edge_types:
                raise ConfigError(
                    f'rel: {edge_type} would become {target} beside {interactions}; remove '
                    f'or rename it first'
                )
            _copy_store(data[edge_type], out, target)
        self._move_item_features(out)
        for name in links:
            _check_features(out, name)
        check_graph(out, finite=False, disjoint=False)
        return out

    def _interactions(self, data: HeteroData) -> EdgeType:
        found = [
            edge_type
            for edge_type in data.edge_types
            if (edge_type[0], edge_type[2]) == (self.user, self.item)
        ]
        if self.rel is None:
            matches = [edge_type for edge_type in found if edge_type[1] == INTERACTS[1]] or found
        else:
            matches = [edge_type for edge_type in found if self.rel in (edge_type[1], edge_type)]
        if len(matches) != 1:
            named = 'one relation' if self.rel is None else f'the relation {self.rel!r}'
            raise ConfigError(
                f'rel: {named} from {self.user!r} to {self.item!r} is needed, found '
                f'{found or data.edge_types}'
            )
        return matches[0]

    def _modality_links(self, data: HeteroData) -> dict[str, EdgeType]:
        leaving = [
            edge_type
            for edge_type in data.edge_types
            if edge_type[0] == self.item and edge_type[2] != self.user
        ]
        links = {edge_type[2]: edge_type for edge_type in leaving if edge_type[1] == HAS}
        if isinstance(self.modalities, Mapping):
            wanted = {
                name: [edge_type for edge_type in leaving if rel in (edge_type[1], edge_type)]
                for name, rel in self.modalities.items()
            }
        else:
            wanted = {
                name: [edge_type for edge_type in leaving if edge_type[2] == name]
                for name in self.modalities or ()
            }
        for name, matches in wanted.items():
            if len(matches) != 1:
                raise ConfigError(
                    f'modalities: {name!r} matches {matches or "no edge type"}, accepted is one '
                    f'edge type that leaves {self.item!r}, found {leaving or "none"}'
                )
            # A 'has' edge type that is renamed must not stay a modality under its old name as well.
            links = {old: source for old, source in links.items() if source != matches[0]}
            if name in links or name in (USER, ITEM):
                raise ConfigError(f'modalities: the name {name!r} is taken, choose another')
            links[name] = matches[0]
        taken = set(_node_types(data)) - {
            self.user,
            self.item,
            *(source[2] for source in links.values()),
        }
        for name in [USER, ITEM, *links]:
            if name in taken:
                raise ConfigError(
                    f'the graph has a node type {name!r} of another meaning, rename it first'
                )
        return links

    def _add_interactions(self, source: Any, out: HeteroData) -> None:
        _copy_store(
            source,
            out,
            INTERACTS,
            skip=LABEL_KEYS if any(key in source for key in LINK_KEYS) else (),
        )
        store = out[INTERACTS]
        store.edge_index = as_dense(source.edge_index).long()
        if self.label_split is None or not any(key in source for key in LINK_KEYS):
            return
        links = self._label_links(source, out)
        num_edges, num_links = store.edge_index.size(1), links.size(1)
        masks = {split: mask for split in MASKS if (mask := read_mask(out, split)) is not None}
        unassigned = torch.ones(num_edges, dtype=torch.bool, device=links.device)
        for mask in masks.values():
            unassigned &= ~mask
        masks.setdefault('train', unassigned)
        masks.setdefault(self.label_split, torch.zeros_like(unassigned))
        known = ('edge_index', *(f'{split}_mask' for split in masks))
        unknown = [key for key in store if key not in known and num_rows(store[key]) == num_edges]
        if unknown and num_links > 0:
            logger.warning(
                'Dropped the edge attributes %s: the links in edge_label_index have none',
                ', '.join(unknown),
            )
            for key in unknown:
                del store[key]
        store.edge_index = torch.cat([store.edge_index, links], dim=1)
        for split, mask in masks.items():
            store[f'{split}_mask'] = torch.cat(
                [mask, mask.new_full((num_links,), split == self.label_split)]
            )

    def _label_links(self, source: Any, out: HeteroData) -> Tensor:
        key = next(key for key in LINK_KEYS if key in source)
        links = as_dense(source[key]).long()
        label = as_dense(source.get('edge_label')) if key == LINK_KEYS[0] else None
        if isinstance(label, Tensor) and label.dim() == 1 and label.size(0) == links.size(1):
            links = links[:, label != 0]
        num_items = int(out[ITEM].num_nodes)
        known = torch.isin(
            pair_keys(links, num_items), pair_keys(out[INTERACTS].edge_index, num_items)
        )
        if bool(known.any()):
            logger.warning(
                'Dropped %d of %d links in %s that are also in edge_index',
                int(known.sum()),
                links.size(1),
                key,
            )
        return links[:, ~known]

    def _move_item_features(self, out: HeteroData) -> None:
        if self.item_x is None or 'x' not in out[ITEM]:
            return
        if self.item_x in out.node_types:
            raise ConfigError(
                f'item_x: the graph has a node type {self.item_x!r} already, choose another '
                f'name or None'
            )
        num_items = int(out[ITEM].num_nodes)
        out[self.item_x].x = as_dense(out[ITEM].x)
        del out[ITEM].x
        _check_features(out, self.item_x)
        x = out[self.item_x].x
        if x.size(0) != num_items:
            raise DataError(
                f'graph: data[{self.item!r}].x has {x.size(0)} rows, accepted is one per '
                f'item ({num_items})'
            )
        out[ITEM, HAS, self.item_x].edge_index = torch.arange(num_items, device=x.device).repeat(
            2, 1
        )


def _copy_store(
    source: Any, out: HeteroData, target: str | EdgeType, skip: Sequence[str] = ()
) -> None:
    for key, value in source.items():
        if key not in skip:
            out[target][key] = value


def _node_types(data: HeteroData) -> list[str]:
    ends = [end for src, _, dst in data.edge_types for end in (src, dst)]
    return list(dict.fromkeys([*data.node_types, *ends]))


def _num_nodes(data: HeteroData, node_type: str) -> int:
    store = data[node_type] if node_type in data.node_types else {}
    if store.get('num_nodes') is not None and 'num_nodes' in store:
        return int(store['num_nodes'])
    for key in ('x', 'raw_id'):
        if num_rows(store.get(key)) is not None:
            return num_rows(store[key])
    largest = -1
    for edge_type in data.edge_types:
        for key in (*EDGE_KEYS, *LINK_KEYS):
            value = data[edge_type].get(key)
            index = read_edge_index({key: value}) if key in EDGE_KEYS else as_dense(value)
            for row, end in enumerate((edge_type[0], edge_type[2])):
                if end == node_type and isinstance(index, Tensor) and index.numel() > 0:
                    largest = max(largest, int(index[row].max()))
                if end == node_type and is_sparse(value):
                    largest = max(largest, value.size(1 - row if EDGE_KEYS[key] else row) - 1)
    # Nodes without an edge are seen by what is said about every node.
    lengths = {num_rows(value) for value in store.values()} - {None}
    return max(largest + 1, lengths.pop() if len(lengths) == 1 else 0)


def _check_edges(data: HeteroData, edge_type: EdgeType) -> None:
    edge_index = read_edge_index(data[edge_type])
    if (
        not isinstance(edge_index, Tensor)
        or edge_index.dim() != 2
        or edge_index.size(0) != 2
        or edge_index.is_floating_point()
        or edge_index.dtype == torch.bool
    ):
        found = (
            f' of type {edge_index.dtype} {tuple(edge_index.shape)}'
            if isinstance(edge_index, Tensor)
            else ''
        )
        raise DataError(
            f'graph: data[{edge_type}] has no edge_index [2, E], found '
            f'{list(data[edge_type].keys())}{found}, accepted are integers'
        )


def _check_features(out: HeteroData, name: str) -> None:
    x = as_dense(out[name].get('x'))
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_complex():
        found = tuple(x.shape) if isinstance(x, Tensor) else list(out[name].keys())
        raise DataError(f'graph: modality {name!r} needs features x [num_nodes, d], found {found}')
    out[name].x = x.float()
    out[name].num_nodes = x.size(0)
