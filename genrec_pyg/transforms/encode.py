r"""Modalities from what describes items: texts, pictures, sounds, words and tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.datasets.io.item_features import as_features
from genrec_pyg.encoders.audio import LOG_MEL, AudioEncoder
from genrec_pyg.encoders.bag import reduce_bag, split_tags, weigh_tags, weigh_words
from genrec_pyg.encoders.images import read_bytes
from genrec_pyg.encoders.rows import Work, encode_images, encode_sounds, encode_texts
from genrec_pyg.encoders.tasks import check_bad_items, refuse_bad_items
from genrec_pyg.encoders.text import POOLING, TextEncoder
from genrec_pyg.encoders.vision import NORMS, ImageEncoder
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import HAS, ITEM, USER, raw_ids, read_content
from genrec_pyg.transforms.base import GraphTransform

KINDS = ('words', 'tags')


@functional_transform('encode_text')
class EncodeText(GraphTransform):
    r"""Adds a modality from a text per item, by a pretrained language model.

    .. code-block:: python

        data['item'].title = ['Alien (1979)', ...]
        data = EncodeText('title')(data)  # data['title'].x [I, 384]

    Args:
        attribute: List of texts in ``data['item']``.
        encoder: See :meth:`~genrec_pyg.encoders.TextEncoder.from_pretrained`.
        name: Name of the modality; by default that of the attribute.
        pooling: See :class:`~genrec_pyg.encoders.TextEncoder`.
        max_length: Most tokens of a text.
        lowercase: Whether texts are lowercased first.
        on_bad_item: An item without a text is refused (``'error'``), has no node (``'skip'``) or a
            zero row (``'zero'``).
        batch_size: Texts per batch.
        device: Device of the encoder; in bfloat16 on a GPU.

    Raises:
        ConfigError: On an argument outside its accepted values, an attribute that is not there, or
            a package that is not installed.
        DataError: If items have no text under ``'error'``.
    """

    def __init__(
        self,
        attribute: str = 'title',
        encoder: str = 'minilm',
        name: str | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        lowercase: bool = False,
        on_bad_item: str = 'error',
        batch_size: int = 64,
        device: str = 'cpu',
    ):
        check_bad_items(on_bad_item)
        if pooling is not None and pooling not in POOLING:
            raise ConfigError(f'pooling: got {pooling!r}, accepted are {", ".join(POOLING)}')
        self.attribute, self.encoder, self.name = attribute, str(encoder), name
        self.pooling, self.max_length, self.lowercase = pooling, max_length, lowercase
        self.on_bad_item, self.batch_size, self.device = on_bad_item, batch_size, device

    def forward(self, data: HeteroData) -> HeteroData:
        name = _free_name(data, self.name or self.attribute)
        texts = read_content(data, self.attribute).values
        encoder = TextEncoder.from_pretrained(
            self.encoder, self.pooling, self.max_length, self.lowercase
        )
        work = Work(self.device, batch_size=self.batch_size)
        x, reasons = encode_texts(encoder, texts, work, name)
        return _add_modality(data, name, x, reasons, self.on_bad_item)


@functional_transform('encode_images')
class EncodeImages(GraphTransform):
    r"""Adds a modality from a picture per item, by a pretrained network.

    Args:
        attribute: List of paths of files in ``data['item']``, empty where there is no picture.
        encoder: See :meth:`~genrec_pyg.encoders.ImageEncoder.from_pretrained`.
        name: Name of the modality; by default that of the attribute.
        norm: See :meth:`~genrec_pyg.encoders.ImageEncoder.from_pretrained`.
        on_bad_item: See :class:`EncodeText`; pictures that cannot be decoded are bad too.
        batch_size: Pictures per batch.
        workers: Threads that decode.
        device: Device of the encoder; in bfloat16 on a GPU.

    Raises:
        ConfigError: On an argument outside its accepted values, an attribute that is not there, or
            a package that is not installed.
        DataError: If pictures are missing or damaged under ``'error'``.
    """

    def __init__(
        self,
        attribute: str = 'image',
        encoder: str = 'efficientnet-lite0',
        name: str | None = None,
        norm: str = 'model',
        on_bad_item: str = 'error',
        batch_size: int = 64,
        workers: int = 4,
        device: str = 'cpu',
    ):
        check_bad_items(on_bad_item)
        if norm not in ('model', *NORMS):
            raise ConfigError(f'norm: got {norm!r}, accepted are model, {", ".join(NORMS)}')
        self.attribute, self.encoder, self.name, self.norm = attribute, str(encoder), name, norm
        self.on_bad_item, self.batch_size = on_bad_item, batch_size
        self.workers, self.device = workers, device

    def forward(self, data: HeteroData) -> HeteroData:
        encoder = ImageEncoder.from_pretrained(self.encoder, self.norm)
        return _encode_files(data, self, encoder, encode_images)


@functional_transform('encode_audio')
class EncodeAudio(GraphTransform):
    r"""Adds a modality from a sound per item.

    Args:
        attribute: List of paths of files in ``data['item']``, empty where there is no sound.
        encoder: See :meth:`~genrec_pyg.encoders.AudioEncoder.from_pretrained`.
        name: Name of the modality; by default that of the attribute.
        seconds: Most seconds of a sound, from its start.
        on_bad_item: See :class:`EncodeText`; sounds that cannot be decoded are bad too.
        batch_size: Sounds per batch.
        workers: Threads that decode.
        device: Device of the encoder; in bfloat16 on a GPU.

    Raises:
        ConfigError: On an argument outside its accepted values, an attribute that is not there, or
            a package that is not installed.
        DataError: If sounds are missing or damaged under ``'error'``.
    """

    def __init__(
        self,
        attribute: str = 'audio',
        encoder: str = LOG_MEL,
        name: str | None = None,
        seconds: float = 30.0,
        on_bad_item: str = 'error',
        batch_size: int = 64,
        workers: int = 4,
        device: str = 'cpu',
    ):
        check_bad_items(on_bad_item)
        self.attribute, self.encoder, self.name = attribute, str(encoder), name
        self.seconds, self.on_bad_item, self.batch_size = seconds, on_bad_item, batch_size
        self.workers, self.device = workers, device

    def forward(self, data: HeteroData) -> HeteroData:
        encoder = AudioEncoder.from_pretrained(self.encoder, self.seconds)
        return _encode_files(data, self, encoder, encode_sounds)


@functional_transform('encode_bag')
class EncodeBag(GraphTransform):
    r"""Adds a modality from words or tags of items: TF-IDF, reduced by a truncated singular value
    decomposition or kept sparse.

    Args:
        attribute: List of texts in ``data['item']``, or of lists of tags.
        kind: ``'words'`` (and pairs of words) of texts, or ``'tags'``.
        name: Name of the modality; by default that of the attribute.
        channels: Width; :obj:`None` keeps the sparse weights.
        separator: What stands between tags in a text.
        min_df: Fewest items that have a word (default 2) or tag (default 1).
        on_bad_item: See :class:`EncodeText`; an item without a known word or tag is bad.
        seed: Seed of the decomposition.

    Raises:
        ConfigError: On an argument outside its accepted values, or an attribute that is not there.
        DataError: If items have no word or tag under ``'error'``, or none is left.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import EncodeBag
        >>> data = toy_graph()
        >>> data['item'].tags = [['film', 'new'], ['film'], ['book']] + [['book', 'new']] * 4
        >>> EncodeBag(channels=2, min_df=1)(data)['tags'].x.shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        attribute: str = 'tags',
        kind: str = 'tags',
        name: str | None = None,
        channels: int | None = 128,
        separator: str | None = None,
        min_df: int | None = None,
        on_bad_item: str = 'error',
        seed: int = 0,
    ):
        check_bad_items(on_bad_item)
        if kind not in KINDS:
            raise ConfigError(f'kind: got {kind!r}, accepted are {", ".join(KINDS)}')
        self.attribute, self.kind, self.name, self.channels = attribute, kind, name, channels
        self.separator, self.min_df = separator, min_df
        self.on_bad_item, self.seed = on_bad_item, seed

    def forward(self, data: HeteroData) -> HeteroData:
        name = _free_name(data, self.name or self.attribute)
        values = data[ITEM].get(self.attribute)
        if (
            isinstance(values, (list, tuple))
            and len(values) == data[ITEM].num_nodes
            and all(isinstance(value, (list, tuple)) for value in values)
        ):
            tags = [list(map(str, value)) for value in values]
        else:
            texts = read_content(data, self.attribute).values
            tags = [
                [text] if self.kind == 'words' else split_tags(text, self.separator)
                for text in texts
            ]
        if self.kind == 'words':
            x = weigh_words([' '.join(some) for some in tags], self.min_df or 2)
        else:
            x = weigh_tags(tags, self.min_df or 1)
        empty = np.flatnonzero(x.getnnz(axis=1) == 0).tolist()
        if self.channels is not None:
            x = reduce_bag(x, self.channels, self.seed)
        return _add_modality(
            data, name, x, dict.fromkeys(empty, f'no known {self.kind[:-1]}'), self.on_bad_item
        )


def _places(
    files: Sequence[str],
) -> tuple[Callable[[int], bytes | None], Callable[[int], str], int]:
    r"""From a place to the content and the name of its file, and the number of places."""
    return (
        lambda place: read_bytes(files[place]) if files[place] else None,
        files.__getitem__,
        len(files),
    )


def _encode_files(
    data: HeteroData,
    transform: EncodeImages | EncodeAudio,
    encoder: ImageEncoder | AudioEncoder,
    encode: Callable,
) -> HeteroData:
    r"""Adds what ``encode`` makes of the files that the attribute of ``transform`` names."""
    name = _free_name(data, transform.name or transform.attribute)
    files = read_content(data, transform.attribute).values
    work = Work(transform.device, batch_size=transform.batch_size, workers=transform.workers)
    strict = transform.on_bad_item == 'error'
    x, reasons = encode(encoder, *_places(files), work, name, strict=strict)
    return _add_modality(data, name, x, reasons, transform.on_bad_item)


def _free_name(data: HeteroData, name: str) -> str:
    if name in (USER, ITEM) or name in data.node_types:
        raise ConfigError(
            f'name: got {name!r}, which the graph has already; accepted are other names'
        )
    return name


def _add_modality(
    data: HeteroData, name: str, x: Any, reasons: dict[int, str], policy: str
) -> HeteroData:
    refuse_bad_items(raw_ids(data, ITEM), reasons, policy)
    item = np.arange(x.shape[0])
    if policy == 'skip':
        item = np.setdiff1d(item, list(reasons))
    data[name].x = as_features(x[item])
    data[ITEM, HAS, name].edge_index = torch.stack(
        [torch.from_numpy(item), torch.arange(len(item))]
    )
    return data
