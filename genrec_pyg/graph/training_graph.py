r"""The input of models, free of held-out interactions."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import DataError
from genrec_pyg.graph.containers import EDGE_KEYS, as_dense
from genrec_pyg.graph.content import Content, read_content
from genrec_pyg.graph.modality import Modality, item_modality
from genrec_pyg.graph.schema import (
    HAS,
    INTERACTS,
    ITEM,
    MASKS,
    ROWS_PER_BLOCK,
    USER,
    check_graph,
    modality_names,
    pair_keys,
    read_edges,
    read_mask,
    select_modalities,
    split_edges,
)
from genrec_pyg.graph.time_order import timed_edges

logger = logging.getLogger(__name__)

#: What stores carry for people and for splits, not for models.
_BOOKKEEPING = {
    'num_nodes',
    'raw_id',
    'time',
    'ordered',
    'noise',
    *EDGE_KEYS,
    *(f'{name}_mask' for name in MASKS),
}
#: What many models of other libraries read.
_EXPECTED = ('x', 'edge_attr', 'edge_weight', 'rating', 'edge_label_index')


@dataclass(frozen=True)
class TrainingGraph:
    r"""Input of models: training edges and modality features, nothing held out.

    Args:
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.
        edge_index: Distinct training interactions ``[2, E]``, sorted by user, then item.
        modalities: Modality name to :class:`Modality`, in graph order.
        sequence: Training interactions ``[2, S]`` sorted by user, then time, for models that read
            their order.
        contents: Name to :class:`~genrec_pyg.graph.Content`, for models that encode texts or images
            themselves.
    """

    num_users: int
    num_items: int
    edge_index: Tensor
    modalities: dict[str, Modality] = field(default_factory=dict)
    sequence: Tensor | None = None
    contents: dict[str, Content] = field(default_factory=dict)

    @property
    def num_edges(self) -> int:
        return self.edge_index.size(1)

    def user_degree(self) -> Tensor:
        r"""Training items per user ``[U]``, int64."""
        return torch.bincount(self.edge_index[0], minlength=self.num_users)

    def item_degree(self) -> Tensor:
        r"""Training users per item ``[I]``, int64 (the popularity)."""
        return torch.bincount(self.edge_index[1], minlength=self.num_items)

    def to(self, device: torch.device) -> TrainingGraph:
        r"""The same graph on another device."""
        modalities = {name: modality.to(device) for name, modality in self.modalities.items()}
        sequence = None if self.sequence is None else self.sequence.to(device)
        out = TrainingGraph(
            self.num_users,
            self.num_items,
            self.edge_index.to(device),
            modalities,
            sequence,
            self.contents,
        )
        if '_fingerprint' in self.__dict__:  # every epoch's checkpoint asks for it
            out.__dict__['_fingerprint'] = self._fingerprint
        return out

    def fingerprint(self) -> str:
        r"""Hex digest of sizes, training edges, the sequence where there is one, features (as
        float32) and links of the modalities, and contents, computed once: stored in checkpoints to
        identify their graph.
        """
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f'{self.num_users} {self.num_items}'.encode())
        digest.update(_bytes(self.edge_index))
        if self.sequence is not None:
            digest.update(_bytes(self.sequence))
        for name, modality in self.modalities.items():
            links = modality.edge_index
            digest.update(
                f'{name!r} {tuple(modality.x.shape)} '
                f'{None if links is None else links.size(1)}'.encode()
            )
            for rows in modality.x.split(ROWS_PER_BLOCK):
                digest.update(_bytes(rows.float()))
            if links is not None:
                digest.update(_bytes(links))
        for content in self.contents.values():
            digest.update(content.digest().encode())
        return digest.hexdigest()


def training_graph(
    data: HeteroData,
    modalities: str | Iterable[str] | None = None,
    timed: bool = False,
    repeats: bool = False,
    contents: Iterable[str] = (),
) -> TrainingGraph:
    r"""Builds the training graph of a canonical graph, the only input that models accept. Whatever
    else the graph holds is named in the log, once.

    Args:
        data: Canonical graph with splits.
        modalities: Modalities to use, in this order; :obj:`None` uses all, an empty list none.
        timed: Whether the order of the interactions is kept too, see
            :func:`~genrec_pyg.graph.time_order.timed_edges`.
        repeats: Whether it keeps repeated pairs.
        contents: Attributes of ``data['item']`` with raw content to keep.

    Raises:
        ConfigError: If a modality or a content is not in the graph.
        DataError: If the graph is not canonical, has ids out of range, non-finite features or no
            training edge, or if ``timed`` is asked for and the graph has no ``time``.
    """
    check_graph(data)
    names = select_modalities(data, modalities)
    edge_index = split_edges(data, 'train')
    if edge_index.size(1) == 0:
        raise DataError(f'graph: the training split of {INTERACTS} is empty')
    found = {name: item_modality(data, name) for name in names}
    raw = {name: read_content(data, name) for name in contents}
    _log_unread(data, raw)
    sequence = timed_edges(data, ('train',), repeats) if timed else None
    return TrainingGraph(
        int(data[USER].num_nodes), int(data[ITEM].num_nodes), edge_index, found, sequence, raw
    )


def check_held_out(
    graph: TrainingGraph, data: HeteroData, splits: Sequence[str] = ('val', 'test')
) -> None:
    r"""Refuses a graph whose held-out pairs a model was trained on: a graph of another split than
    the model's.

    Args:
        graph: Training graph of the model. It may have more or fewer edges, or other features, than
            ``data``.
        data: Canonical graph that the model is fitted, evaluated or asked on.
        splits: Held-out splits of ``data`` to compare, where there are any.

    Raises:
        DataError: If numbers of users or items differ, or a held-out pair is a training pair of the
            model.
    """
    sizes = (int(data[USER].num_nodes), int(data[ITEM].num_nodes))
    if sizes != (graph.num_users, graph.num_items):
        raise DataError(
            f'graph: it has {sizes[0]} users and {sizes[1]} items, the model was made from a '
            f'graph with {graph.num_users} and {graph.num_items}; accepted is the graph that the '
            f'model was made from'
        )
    known = pair_keys(graph.edge_index.cpu(), graph.num_items)
    for split in splits:
        if read_mask(data, split) is None:
            continue
        held_out = pair_keys(split_edges(data, split).cpu(), graph.num_items)
        count = int(torch.isin(held_out, known).sum())
        if count > 0:
            raise DataError(
                f'graph: {count} of {held_out.numel()} pairs of its {split} split are training '
                f'pairs of the model, which was made from another split; accepted is a model made '
                f'from this split'
            )


def held_out_digests(data: HeteroData) -> dict[str, str]:
    r"""Hex digests of the pairs of the validation and the test split, where the graph has them.
    Checkpoints note them beside the fingerprint of the training graph: a model does not depend on
    these pairs, its metrics do.
    """
    return {
        split: hashlib.sha256(_bytes(split_edges(data, split))).hexdigest()
        for split in ('val', 'test')
        if read_mask(data, split) is not None
    }


def _bytes(x: Tensor) -> bytes:
    return x.detach().contiguous().cpu().numpy().tobytes()


def _log_unread(data: HeteroData, contents: Collection[str]) -> None:
    r"""Names in the log, once, what the graph holds and no model reads besides ``contents``."""
    names = modality_names(data)
    read = {INTERACTS, *((ITEM, HAS, name) for name in names)}
    # The reverse of what is read holds nothing of its own.
    reverse = {(dst, f'rev_{rel}', src) for src, rel, dst in read}
    attributes = [
        (f'data[{node_type!r}]', key)
        for node_type in (USER, ITEM)
        for key in data[node_type].keys()
        if node_type != ITEM or key not in contents
    ]
    attributes += [
        (f'data[{name!r}]', key) for name in names for key in data[name].keys() if key != 'x'
    ]
    attributes += [
        (f'data[{edge_type}]', key) for edge_type in sorted(read) for key in data[edge_type].keys()
    ]
    attributes = [(store, key) for store, key in attributes if key not in _BOOKKEEPING]
    unread = [
        f'data[{node_type!r}]'
        for node_type in data.node_types
        if node_type not in (USER, ITEM, *names)
    ]
    unread += [
        f'data[{edge_type}]' for edge_type in data.edge_types if edge_type not in read | reverse
    ]
    unread += [f'{store}.{key}' for store, key in attributes if key in _EXPECTED]
    if unread:
        weights = all(entry.startswith(f'data[{INTERACTS}].') for entry in unread)
        _log_once(
            logging.WARNING,
            f'models do not read {", ".join(unread)} of the graph: every training interaction '
            'counts as 1'
            + (
                ''
                if weights
                else ', and features are read from modalities only (genrec_pyg.transforms.MapTypes)'
            ),
        )
    others = [f'{store}.{key}' for store, key in attributes if key not in _EXPECTED]
    for name in names:
        count = (
            as_dense(data[name].x).size(0) - read_edges(data, (ITEM, HAS, name))[1].unique().numel()
        )
        others += [f'{count} nodes of {name!r} that no item links to'] if count > 0 else []
    if others:
        titles = (
            '; python -m genrec_pyg.encode makes a modality of titles'
            if (f'data[{ITEM!r}]', 'title') in attributes and not names
            else ''
        )
        _log_once(logging.INFO, f'models do not read {", ".join(others)} of the graph{titles}')


@contextlib.contextmanager
def unread_was_said() -> Iterator[None]:
    r"""Within it, and in later calls of the process, nothing more is said of what models do not
    read of the same graph: for runs, whose training said it.
    """
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@functools.lru_cache(maxsize=1024)
def _log_once(level: int, message: str) -> None:
    logger.log(level, message)
