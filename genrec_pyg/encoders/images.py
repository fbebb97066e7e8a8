r"""Reading of pictures from outside: small ones and bombs, damaged and mislabeled ones."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.encoders.extras import require
from genrec_pyg.exceptions import DataError

#: Formats that are decoded, told by content: few decoders, each of long use.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP')
#: Largest picture in pixels and file in bytes.
MAX_PIXELS = 50_000_000
MAX_BYTES = 100_000_000


def read_image(source: str | Path | bytes, name: str = '') -> Any:
    r"""Decodes a picture as RGB.

    The format is that of the content, whatever the name says; of a GIF the first frame counts.
    Gray, palette and CMYK pictures are converted, transparent ones laid on white, and an EXIF
    rotation is applied.

    Args:
        source: File, or its content.
        name: What it is called in messages; by default its path.

    Returns:
        A :class:`PIL.Image.Image` in mode ``RGB``.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If it is no picture of :data:`FORMATS`, is damaged or truncated, or exceeds
            :data:`MAX_PIXELS` or :data:`MAX_BYTES`.
    """
    image_module = require('PIL.Image', 'image', 'reading pictures')
    name = name or (f'picture of {len(source)} bytes' if isinstance(source, bytes) else str(source))
    content = _content(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of metadata; the size is checked here
            with image_module.open(io.BytesIO(content), formats=FORMATS) as image:
                if min(image.size) < 1 or image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f'{name}: announces {image.width} x {image.height} pixels, accepted are up '
                        f'to {MAX_PIXELS}'
                    )
                image.load()
                return _to_rgb(image_module, image)
    except DataError:
        raise
    except Exception as error:  # damage can lead a decoder anywhere
        raise DataError(
            f'{name}: cannot be decoded ({str(error)[:200] or type(error).__name__}), accepted are '
            f'whole pictures of {", ".join(FORMATS)}'
        ) from error


def read_bytes(path: str | Path) -> bytes:
    r"""Content of a file, up to one byte more than :data:`MAX_BYTES`.

    Raises:
        DataError: If it cannot be read.
    """
    with open_regular(Path(path)) as file:
        return file.read(MAX_BYTES + 1)


def to_pixels(image: Any, size: tuple[int, int], resample: str = 'bilinear') -> Tensor:
    r"""Scales a picture to ``size`` (height, width), whatever its shape: uint8 ``[3, H, W]``."""
    filters = require('PIL.Image', 'image', 'reading pictures').Resampling
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), filters[resample.upper()])
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1).contiguous()


def _content(source: str | Path | bytes, name: str) -> bytes:
    content = source if isinstance(source, bytes) else read_bytes(source)
    if len(content) > MAX_BYTES:
        raise DataError(
            f'{name}: has more than {MAX_BYTES} bytes, accepted are pictures up to that'
        )
    if not content:
        raise DataError(f'{name}: is empty, accepted is a picture')
    return content


def _to_rgb(image_module: Any, image: Any) -> Any:
    image = require('PIL.ImageOps', 'image', 'reading pictures').exif_transpose(image)
    if image.mode[:4] in ('I', 'I;16', 'F'):  # conversion alone would cut at 255
        low, high = image.getextrema()
        scale = 255 / max(high, 65535 if image.mode.startswith('I') else high, 1)
        image = image.convert('F').point(lambda value: value * scale).convert('L')
    if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA'):
        image = image.convert('RGBA')
        white = image_module.new('RGBA', image.size, (255, 255, 255, 255))
        image = image_module.alpha_composite(white, image)
    return image.convert('RGB')
