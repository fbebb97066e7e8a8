r"""Small pictures of items for a page."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.encoders.images import read_image
from genrec_pyg.encoders.item_images import ItemImages, decode_image
from genrec_pyg.exceptions import DataError, GenRecError

logger = logging.getLogger(__name__)

#: Longest side of a picture in pixels.
SIDE = 96


def pictures(source: Any, item: Iterable[int], root: Path) -> dict[int, str]:
    r"""Pictures of items as ``data:`` addresses, for those that have one. Whatever is in a file is
    decoded and encoded again.

    Args:
        source: Pixels ``[I, 3, H, W]`` (bytes, or numbers in [0, 1]), names of files in ``root`` by
            item, :class:`~genrec_pyg.encoders.item_images.ItemImages`, or nothing.
        item: Items that the page shows.
        root: Folder of the dataset.
    """
    if source is None:
        return {}
    found, missing = {}, 0
    for number in item:
        try:
            image = _open(source, number, root)
        except GenRecError as error:
            if missing == 0:
                logger.warning('a picture is left out: %s', error)
            missing += 1
            continue
        if image is not None:
            found[number] = _address(image)
    if missing > 1:
        logger.warning('%d pictures are left out', missing)
    return found


def _open(source: Any, number: int, root: Path) -> Any | None:
    if isinstance(source, ItemImages):
        content = source.content(number)
        return None if content is None else decode_image(content, source.name(number))
    value = source[number]
    if isinstance(value, Tensor):
        return _from_pixels(value)
    if value is None or str(value) == '':
        return None
    path = (root / str(value)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DataError(f'{value}: lies outside of {root}, accepted are files in it')
    return read_image(path)


def _from_pixels(value: Tensor) -> Any | None:
    from PIL import Image

    if value.dim() != 3 or value.size(0) not in (1, 3):
        return None
    if value.is_floating_point():
        value = (value.clamp(0, 1) * 255).round()
    pixels = value.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous()
    return Image.fromarray(pixels.numpy(), 'RGB')


def _address(image: Any) -> str:
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=80)
    return f'data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'
