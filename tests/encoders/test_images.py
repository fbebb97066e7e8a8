import io
import struct
import zlib

import pytest
import torch

from genrec_pyg.encoders import images, read_image
from genrec_pyg.encoders.images import to_pixels
from genrec_pyg.exceptions import DataError

Image = pytest.importorskip(
    'PIL.Image',
    reason='PILLOW IS NOT INSTALLED: no picture is tested (pip install genrec_pyg[image])',
)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    'mode, color, kind',
    [
        ('RGB', (200, 100, 50), 'PNG'),
        ('L', 100, 'JPEG'),
        ('RGB', (200, 100, 50), 'BMP'),
        ('P', 3, 'GIF'),
        ('1', 1, 'PNG'),
        ('RGB', (10, 20, 30), 'WEBP'),
    ],
)
def test_modes_and_formats_become_rgb(mode, color, kind):
    image = Image.new(mode, (5, 4), color)
    read = read_image(encoded(image, kind))
    assert (read.mode, read.size) == ('RGB', (5, 4))
    expected = image.convert('RGB').getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(read.getpixel((2, 2)), expected)) <= 3


def test_cmyk_keeps_its_colors():
    red = read_image(encoded(Image.new('RGB', (8, 8), (250, 0, 0)).convert('CMYK'), 'JPEG'))
    assert red.getpixel((3, 3))[0] > 200 > 60 > max(red.getpixel((3, 3))[1:])


def test_sixteen_bits_are_scaled_not_cut():
    deep = read_image(encoded(Image.new('I;16', (2, 2), 32768), 'PNG'))
    assert deep.getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)


def test_what_is_transparent_lies_on_white():
    clear = read_image(encoded(Image.new('RGBA', (2, 2), (0, 0, 0, 0)), 'PNG'))
    assert clear.getpixel((0, 0)) == (255, 255, 255)


def test_first_frame_of_a_gif_called_jpg(tmp_path):
    frames = [Image.new('P', (3, 3), number) for number in (0, 1)]
    frames[0].save(tmp_path / 'a.jpg', 'GIF', save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / 'a.jpg').size == (3, 3)


def test_rotation_in_exif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(encoded(Image.new('RGB', (6, 2)), 'JPEG', exif=exif)).size == (2, 6)


def test_a_truncated_file_is_refused_by_name(tmp_path):
    content = encoded(Image.effect_noise((64, 64), 50), 'JPEG')
    (tmp_path / '7.jpg').write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r'7\.jpg: cannot be decoded .*truncated'):
        read_image(tmp_path / '7.jpg')


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'is empty'),
        (b'<html>', 'accepted are whole pictures of JPEG, PNG'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'cannot be decoded'),
    ],
)
def test_what_is_no_picture_is_refused(content, message):
    with pytest.raises(DataError, match=message):
        read_image(content)


def test_a_bomb_is_refused_before_it_is_decoded():
    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    header = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(b'\0'))
        + chunk(b'IEND', b'')
    )
    with pytest.raises(DataError, match='announces 60000 x 60000 pixels|cannot be decoded .*bomb'):
        read_image(bomb)


def test_a_file_that_is_too_long_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(images, 'MAX_BYTES', 10)
    (tmp_path / 'a.jpg').write_bytes(b'x' * 11)
    with pytest.raises(DataError, match='a.jpg: has more than 10 bytes'):
        read_image(tmp_path / 'a.jpg')


def test_pixels_keep_rows_and_channels():
    image = Image.new('RGB', (2, 1))
    image.putpixel((1, 0), (1, 2, 3))
    pixels = to_pixels(image, (1, 2))
    assert pixels.dtype == torch.uint8 and pixels.tolist() == [[[0, 1]], [[0, 2]], [[0, 3]]]
    assert to_pixels(image, (4, 6), 'bicubic').shape == (3, 4, 6)
