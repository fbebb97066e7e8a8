r"""Settings of item sides, and what makes one of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.items.encoded import EncodedRows
from genrec_pyg.nn.items.features import FeatureRows
from genrec_pyg.nn.items.fusion import FUSIONS, FusedRows
from genrec_pyg.nn.items.table import ItemRows, ItemTable

#: Accepted item sides.
KINDS = ('id', 'frozen', 'encoder', 'id+frozen', 'id+encoder')


@dataclass(frozen=True)
class ItemSide:
    r"""Where the rows of items come from, the question of Yuan et al., "Where to Go Next for
    Recommender Systems? ID- vs. Modality-based Recommender Models Revisited" (SIGIR 2023,
    https://arxiv.org/abs/2303.13835).

    ===============  ===============================================================================
    ``kind``         row of an item
    ===============  ===============================================================================
    ``id``           a learned one
    ``frozen``       a learned map of the features of the graph's modalities (``FeatureRows``)
    ``encoder``      its text or image through an encoder that is trained too (``EncodedRows``)
    ``id+frozen``    ``id`` and ``frozen`` together (``FusedRows``)
    ``id+encoder``   ``id`` and ``encoder`` together
    ===============  ===============================================================================

    Args:
        kind: A name of the table.
        encoder: Folder, package or repository of the encoder, see
            :func:`~genrec_pyg.encoders.weights.find_weights`.
        content: Attribute of ``data['item']`` that it reads; by default ``title`` for texts and
            ``image`` for images.
        weights: ``'pretrained'``, or ``'random'``, the same network drawn again.
        pooling: Pooling of texts: ``'cls'``, ``'mean'`` or ``'last'``; by default that of the
            encoder.
        max_length: Most tokens of a text.
        lowercase: Whether texts are lowercased first, whatever the vocabulary.
        unfreeze: What is trained of the encoder: ``'all'``, ``'none'`` or a number of last blocks.
        frozen_tensors: Number of tensors, counted from the first, that are frozen, as the public
            program counts; 0 leaves it to ``unfreeze``.
        projection_layers: Layers :math:`l` after the projection of content.
        fusion: ``'add'``, ``'concat'`` or ``'concat3'``.
        fusion_layers: Layers :math:`k` after the fusion.
        dropout: Dropout of these layers.
        chunk_size: Most items that are encoded at a time.
        recompute: Whether backward encodes chunks again, which bounds the memory of any batch.
        keep_frozen: Whether outputs of frozen lower layers of a text encoder are computed once per
            item, without dropout, and kept in memory.

    Raises:
        ConfigError: On a value that is not accepted, or one without effect.
    """

    kind: str = 'id'
    encoder: str | None = None
    content: str | None = None
    weights: str = 'pretrained'
    pooling: str | None = None
    max_length: int = 30
    lowercase: bool = True
    unfreeze: int | str = 'all'
    frozen_tensors: int = 0
    projection_layers: int = 0
    fusion: str = 'add'
    fusion_layers: int = 0
    dropout: float = 0.1
    chunk_size: int = 256
    recompute: bool = False
    keep_frozen: bool = False

    def __post_init__(self) -> None:
        for name, value, accepted in (
            ('kind', self.kind, KINDS),
            ('weights', self.weights, ('pretrained', 'random')),
            ('fusion', self.fusion, tuple(FUSIONS)),
        ):
            if value not in accepted:
                raise ConfigError(
                    f'item_side.{name}: got {value!r}, accepted are '
                    f'{", ".join(map(repr, accepted))}'
                )
        for name, low in (
            ('max_length', 1),
            ('frozen_tensors', 0),
            ('projection_layers', 0),
            ('fusion_layers', 0),
            ('chunk_size', 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigError(
                    f'item_side.{name}: got {value!r}, accepted are integers from {low}'
                )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f'item_side.dropout: got {self.dropout}, accepted are numbers from 0 to below 1'
            )
        if self.encodes and self.encoder is None:
            raise ConfigError(
                f"item_side.encoder: got None with kind='{self.kind}', accepted is the folder or "
                f'package of an encoder'
            )
        for name, value in asdict(self).items():
            if value != _DEFAULTS[name] and name not in self._read():
                raise ConfigError(
                    f"item_side.{name}: got {value!r} with kind='{self.kind}', which does not "
                    f'read it; accepted is {_DEFAULTS[name]!r}'
                )
        if self.frozen_tensors and self.unfreeze != 'all':
            raise ConfigError(
                f'item_side.unfreeze: got {self.unfreeze!r} with '
                f'frozen_tensors={self.frozen_tensors}, accepted is one of the two'
            )

    def _read(self) -> set[str]:
        r"""Names of the settings that have an effect."""
        read = {'kind'}
        if self.encodes:
            read |= {
                'encoder',
                'content',
                'weights',
                'pooling',
                'max_length',
                'lowercase',
                'unfreeze',
                'frozen_tensors',
                'chunk_size',
                'recompute',
                'keep_frozen',
            }
        if self.has_content:
            read |= {'projection_layers', 'dropout'}
        if self.has_content and self.has_table:
            read |= {'fusion', 'fusion_layers'}
        return read

    @classmethod
    def of(cls, value: ItemSide | Mapping[str, Any] | str | None) -> ItemSide:
        r"""Settings from themselves, a mapping, the name of a kind, or :obj:`None` for the default.

        Raises:
            ConfigError: On anything else, or an unknown name.
        """
        if isinstance(value, ItemSide):
            return value
        if value is None or isinstance(value, str):
            return cls(value or 'id')
        if not isinstance(value, Mapping) or not set(value) <= set(_DEFAULTS):
            raise ConfigError(
                f'item_side: got {value!r}, accepted are a kind ({", ".join(KINDS)}) and a '
                f'mapping of {", ".join(_DEFAULTS)}'
            )
        return cls(**value)

    @property
    def has_table(self) -> bool:
        r"""Whether items have learned rows."""
        return self.kind.startswith('id')

    @property
    def has_content(self) -> bool:
        r"""Whether rows depend on features or raw content, so that items without interactions have
        rows that say something.
        """
        return self.kind != 'id'

    @property
    def encodes(self) -> bool:
        r"""Whether an encoder is part of the model."""
        return self.kind.endswith('encoder')

    def contents(self) -> list[str]:
        r"""Attributes of ``data['item']`` that it reads."""
        return [self.content or self.opened.default_content] if self.encodes else []

    @functools.cached_property
    def opened(self) -> Any:
        r"""What was found under the name of the encoder, opened once."""
        from genrec_pyg.nn.items.content import (
            open_encoder,  # here: models without an encoder have no need of it
        )

        return open_encoder(self)


_DEFAULTS = {one.name: one.default for one in fields(ItemSide)}

#: Learned rows, the default of all models.
BY_ID = ItemSide()


def make_items(
    graph: TrainingGraph, channels: int, side: ItemSide, std: float | None = None
) -> ItemRows:
    r"""Makes an item side.

    Args:
        graph: Training graph, with the modalities or contents that the side reads.
        channels: Width ``d``.
        side: Settings.
        std: Standard deviation from which learned rows start; by default
            :math:`\sqrt{2 / (I + 1 + d)}`, as in IDRec.

    Raises:
        ConfigError: If the graph lacks what the side reads.
    """
    table = None
    if side.has_table:
        table = ItemTable(
            graph.num_items,
            channels,
            math.sqrt(2 / (graph.num_items + 1 + channels)) if std is None else std,
        )
        if side.kind == 'id':
            return table
    if side.encodes:
        content = _encoded(graph, channels, side)
    else:
        content = FeatureRows(graph, channels, side.projection_layers, side.dropout)
    return (
        content
        if table is None
        else FusedRows(table, content, side.fusion, side.fusion_layers, side.dropout)
    )


def _encoded(graph: TrainingGraph, channels: int, side: ItemSide) -> EncodedRows:
    name = side.contents()[0]
    if name not in graph.contents:
        raise ConfigError(
            f'item_side.content: the training graph has no content {name!r}, accepted is one of '
            f'training_graph(data, contents=[{name!r}])'
        )
    network = side.opened.network()
    return EncodedRows(
        network.read(graph.contents[name].values),
        network,
        graph.num_items,
        channels,
        side.projection_layers,
        side.dropout,
        side.chunk_size,
        side.recompute,
        xavier=side.opened.default_content == 'image',
    )
