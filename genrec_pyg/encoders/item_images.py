r"""Pictures of items: a folder of files, or an LMDB file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from genrec_pyg.datasets.io.lmdb_images import LmdbImages, is_pickle, unpack_image
from genrec_pyg.datasets.io.regular import list_nested
from genrec_pyg.datasets.io.values import read_ids
from genrec_pyg.encoders.extras import require
from genrec_pyg.encoders.images import MAX_PIXELS, read_bytes, read_image
from genrec_pyg.encoders.item_tables import Ids
from genrec_pyg.exceptions import DataError

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp')


class ItemImages(NamedTuple):
    r"""Items and where their pictures are.

    Args:
        path: Folder or LMDB file.
        ids: Item ids in order.
        keys: Name of the file or key of each item, :obj:`None` where it has no picture.
        lmdb: The LMDB file, if it is one.
        unused: Pictures of items that were not asked for.
    """

    path: Path
    ids: Ids
    keys: list[str | None]
    lmdb: LmdbImages | None
    unused: int

    def content(self, row: int) -> bytes | None:
        r"""Bytes of a picture, :obj:`None` where there is none.

        Raises:
            DataError: If its file cannot be read.
        """
        key = self.keys[row]
        if key is None or self.lmdb is not None:
            return None if key is None else self.lmdb.get(key)
        return read_bytes(self.path / key)

    def name(self, row: int) -> str:
        r"""What the picture is called in messages."""
        key = self.keys[row]
        return f'{self.path}: key {key}' if self.lmdb else str(self.path / str(key))


def find_item_images(
    path: Path,
    items: Ids | None = None,
    endings: Sequence[str] = ENDINGS,
    what: str = 'picture',
) -> ItemImages:
    r"""Lists pictures by item: files are called as their items, ``17.jpg`` or ``b-2.png``, in the
    folder or in folders of it.

    Args:
        path: Folder of pictures, or an LMDB file (or its folder) with keys called as items.
        items: Items that should have one; by default those that do.
        endings: Endings of the files.
        what: What they are called in messages.

    Raises:
        ConfigError: If the package lmdb is needed and not installed.
        DataError: If there is none, or an item has two.
    """
    is_lmdb = path.is_file() or (path / 'data.mdb').is_file()
    lmdb = LmdbImages(path) if is_lmdb else None
    names = (
        lmdb.keys
        if lmdb
        else [name for name in list_nested(path) if Path(name).suffix.lower() in endings]
    )
    by_item: dict[str, str] = {}
    for name in names:
        item = name if lmdb else Path(name).stem
        if item in by_item:
            raise DataError(
                f'{path}: {by_item[item]} and {name} are both of item {item!r}, accepted is '
                f'one {what} per item'
            )
        by_item[item] = name
    if not by_item:
        raise DataError(
            f'{path}: has no {what}, accepted are files ITEM{"|".join(endings)} in a folder'
            f'{", and LMDB files" if what == "picture" else ""}'
        )
    ids = read_ids(pa.chunked_array([pa.array(list(by_item))]), 'item', str(path))[0]
    wanted: Sequence[Any] = ids if items is None else items
    keys = [by_item.get(str(item)) for item in wanted]
    found = sum(key is not None for key in keys)
    if not found:
        raise DataError(
            f'{path}: none of its {len(by_item)} {what}s is of an item that was asked for, '
            f'they are called as {str(ids[0])!r} and the items as {str(wanted[0])!r}'
        )
    return ItemImages(path, wanted, keys, lmdb, len(by_item) - found)


def decode_image(content: bytes, name: str) -> Any:
    r"""Decodes a picture of a folder or an LMDB file, see
    :func:`~genrec_pyg.encoders.images.read_image`.
    """
    if not is_pickle(content):
        return read_image(content, name)
    raw = unpack_image(content, name)
    if raw.height * raw.width > MAX_PIXELS:
        raise DataError(
            f'{name}: has {raw.width} x {raw.height} pixels, accepted are up to {MAX_PIXELS}'
        )
    pillow = require('PIL.Image', 'image', 'reading pictures')
    return pillow.frombytes('RGB', (raw.width, raw.height), raw.content)


def open_image(place: str) -> Any:
    r"""Decodes the picture of a file, or of a key of an LMDB file, ``FILE.lmdb#KEY``.

    Raises:
        DataError: If there is no such key, or the picture cannot be read.
    """
    file, mark, key = place.rpartition('.lmdb#')
    if not mark:
        return read_image(Path(place))
    content = LmdbImages(Path(f'{file}.lmdb')).get(key)
    if content is None:
        raise DataError(
            f'{file}.lmdb: has no key {key!r}, accepted are the keys that it had when '
            'its items were listed'
        )
    return decode_image(content, place)
