r"""Feature files from tables of texts, folders of pictures and bags of words."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from genrec_pyg.datasets.io.feature_files import write_features
from genrec_pyg.datasets.io.manifests import content_digest, source_digest
from genrec_pyg.encoders.audio import AudioEncoder
from genrec_pyg.encoders.bag import reduce_bag, split_tags, weigh_tags, weigh_words
from genrec_pyg.encoders.item_images import ItemImages
from genrec_pyg.encoders.item_tables import Ids, ItemTexts
from genrec_pyg.encoders.parts import Part, remove_parts
from genrec_pyg.encoders.rows import (
    EMPTY,
    MISSING,
    SILENT,
    Work,
    encode_images,
    encode_sounds,
    encode_texts,
)
from genrec_pyg.encoders.text import TextEncoder
from genrec_pyg.encoders.vision import ImageEncoder
from genrec_pyg.exceptions import ConfigError, DataError

logger = logging.getLogger(__name__)

#: What becomes of an item without usable content.
BAD_ITEMS = ('error', 'skip', 'zero')
#: Bad items that a manifest names.
_NAMED = 1000


class Encoded(NamedTuple):
    r"""Rows of items before they are written.

    Args:
        ids: Item ids ``[n]``.
        x: Rows ``[n, d]``.
        reasons: Why an item has no content, by place; its row is zero.
        encoder: What decides the rows, from content.
        digest: SHA-256 of ids and content.
    """

    ids: Ids
    x: np.ndarray | sp.csr_matrix
    reasons: dict[int, str]
    encoder: dict[str, Any]
    digest: str


def check_bad_items(policy: str) -> None:
    r"""Checks a policy for bad items.

    Raises:
        ConfigError: If it is none of :data:`BAD_ITEMS`.
    """
    if policy not in BAD_ITEMS:
        raise ConfigError(f'on_bad_item: got {policy!r}, accepted are {", ".join(BAD_ITEMS)}')


def refuse_bad_items(ids: Sequence[Any], reasons: dict[int, str], policy: str) -> None:
    r"""Refuses items without content, under ``'error'``.

    Raises:
        DataError: If there is one; the message counts them and names the first.
    """
    if policy != 'error' or not reasons:
        return
    first = sorted(reasons.items())[:3]
    shown = '; '.join(f'{str(ids[place])!r}: {reason}' for place, reason in first)
    raise DataError(
        f'{len(reasons)} of {len(ids)} items have no usable content ({shown}); accepted are '
        '--on_bad_item skip, which leaves them out, and zero, which gives them zero rows'
    )


def texts_to_rows(
    encoder: TextEncoder, found: ItemTexts, work: Work, policy: str, output: Path
) -> Encoded:
    r"""Encodes a text per item; see :func:`~genrec_pyg.encoders.rows.encode_texts`.

    Raises:
        DataError: If an item has no text and ``policy`` is ``'error'``.
    """
    texts = [' '.join(some) for some in found.texts]
    reasons = {place: EMPTY for place, text in enumerate(texts) if not text.strip()}
    refuse_bad_items(found.ids, reasons, policy)
    digest = content_digest(found.ids, (text.encode() for text in texts))
    x, reasons = encode_texts(
        encoder, texts, work, output.name, parts_folder(output), {'content': digest}
    )
    about = {**encoder.describe(), 'precision': work.precision}
    return Encoded(found.ids, x, reasons, about, digest)


def images_to_rows(
    encoder: ImageEncoder, found: ItemImages, work: Work, policy: str, output: Path
) -> Encoded:
    r"""Encodes a picture per item; see :func:`~genrec_pyg.encoders.rows.encode_images`.

    Raises:
        DataError: If a picture is missing or unreadable and ``policy`` is ``'error'``.
    """
    return _files_to_rows(encode_images, encoder, found, work, policy, output, MISSING)


def sounds_to_rows(
    encoder: AudioEncoder, found: ItemImages, work: Work, policy: str, output: Path
) -> Encoded:
    r"""Encodes a sound per item; see :func:`~genrec_pyg.encoders.rows.encode_sounds`.

    Raises:
        DataError: If a sound is missing or unreadable and ``policy`` is ``'error'``.
    """
    return _files_to_rows(encode_sounds, encoder, found, work, policy, output, SILENT)


def _files_to_rows(
    encode: Callable[..., Part],
    encoder: ImageEncoder | AudioEncoder,
    found: ItemImages,
    work: Work,
    policy: str,
    output: Path,
    missing: str,
) -> Encoded:
    without = {place: missing for place, key in enumerate(found.keys) if key is None}
    refuse_bad_items(found.ids, without, policy)
    digest = content_digest(found.ids, (_content(found, place) for place in range(len(found.ids))))
    x, reasons = encode(
        encoder,
        found.content,
        found.name,
        len(found.ids),
        work,
        output.name,
        parts_folder(output),
        {'content': digest},
        strict=policy == 'error',
    )
    about = {**encoder.describe(), 'precision': work.precision}
    return Encoded(found.ids, x, reasons, about, digest)


def bag_to_rows(
    found: ItemTexts,
    kind: str,
    policy: str,
    channels: int | None = 128,
    separator: str | None = None,
    min_df: int | None = None,
) -> Encoded:
    r"""Turns words or tags of items into features.

    Args:
        found: Items and their texts.
        kind: ``'words'`` or ``'tags'``.
        policy: What becomes of items without a word or tag.
        channels: Width; :obj:`None` keeps the sparse weights.
        separator: What stands between tags in a text.
        min_df: Fewest items that have a word (default 2) or tag (default 1).

    Raises:
        DataError: If an item has none and ``policy`` is ``'error'``.
    """
    if kind == 'words':
        min_df = 2 if min_df is None else min_df
        x = weigh_words([' '.join(some) for some in found.texts], min_df)
    else:
        min_df = 1 if min_df is None else min_df
        tags = [
            [tag for text in some for tag in split_tags(text, separator)] for some in found.texts
        ]
        x = weigh_tags(tags, min_df)
    empty = np.flatnonzero(x.getnnz(axis=1) == 0)
    reasons = {int(place): f'no known {kind[:-1]}' for place in empty}
    refuse_bad_items(found.ids, reasons, policy)
    digest = content_digest(found.ids, ('\0'.join(some).encode() for some in found.texts))
    rows = x if channels is None else reduce_bag(x, channels)
    encoder = {
        'kind': kind,
        'encoder': 'TF-IDF',
        'width': int(rows.shape[1]),
        'min_df': min_df,
        'separator': separator,
        'labels': int(x.shape[1]),
    }
    return Encoded(found.ids, rows, reasons, encoder, digest)


def save_encoded(
    encoded: Encoded, output: Path, source: Path, policy: str, about: dict[str, Any]
) -> str:
    r"""Writes a feature file with its manifest and removes what was kept for resuming.

    Args:
        encoded: Rows.
        output: The feature file.
        source: What they were made from.
        policy: Bad items are left out (``'skip'``) or zero.
        about: What else the manifest tells.

    Returns:
        One line about it.
    """
    ids, x = encoded.ids, encoded.x
    bad = sorted(encoded.reasons)
    if bad and policy == 'skip':
        kept = np.setdiff1d(np.arange(x.shape[0]), bad)
        ids = ids[kept] if isinstance(ids, np.ndarray) else [ids[place] for place in kept]
        x = x[kept]
    if x.shape[0] == 0:
        raise DataError(f'{source}: no item has usable content, so there is nothing to write')
    write_features(
        output,
        ids,
        x,
        {
            'encoder': encoded.encoder,
            'content': encoded.digest,
            'source': {
                'path': os.path.relpath(source, output.parent),
                'sha256': source_digest(source),
            },
            'bad_items': {
                'policy': policy,
                'number': len(bad),
                'reasons': {
                    str(encoded.ids[place]): encoded.reasons[place] for place in bad[:_NAMED]
                },
            },
            **about,
        },
    )
    remove_parts(parts_folder(output))
    for place in bad[:5]:
        logger.warning('item %s: %s', encoded.ids[place], encoded.reasons[place])
    what = {
        'error': '',
        'skip': f', {len(bad)} without content left out',
        'zero': f', {len(bad)} without content zero',
    }[policy]
    return f'{output}: {x.shape[0]} rows of {x.shape[1]}{what}'


def parts_folder(output: Path) -> Path:
    r"""Folder of finished parts of a feature file."""
    return output.with_name(f'.{output.name}.parts')


def _content(found: ItemImages, place: int) -> bytes:
    try:
        return found.content(place) or b''
    except DataError:  # named when it is to be encoded
        return b''
