import base64
import io

import pytest
import torch

from genrec_pyg.encoders.item_images import find_item_images
from genrec_pyg.reporting.page.pictures import SIDE, pictures

pillow = pytest.importorskip('PIL.Image', reason='PILLOW IS NOT INSTALLED: pictures are not tested')


def opened(address):
    assert address.startswith('data:image/jpeg;base64,')
    return pillow.open(io.BytesIO(base64.b64decode(address.partition(',')[2])))


def test_pixels_and_files_become_small_jpegs(tmp_path):
    red = torch.zeros(2, 3, 300, 150)
    red[:, 0] = 1
    image = opened(pictures(red, [1], tmp_path)[1])
    assert image.size == (SIDE // 2, SIDE) and image.getpixel((5, 5))[0] > 240
    pillow.new('RGB', (200, 100), 'blue').save(tmp_path / 'a.png')
    found = pictures(['a.png', '', None], [0, 1, 2], tmp_path)
    assert list(found) == [0] and opened(found[0]).size == (SIDE, SIDE // 2)


def test_what_is_no_picture_in_the_folder_is_left_out(tmp_path, caplog):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'page.png').write_text('<script>alert(1)</script>')
    pillow.new('RGB', (4, 4)).save(tmp_path / 'secret.png')
    names = ['page.png', '../secret.png', str(tmp_path / 'secret.png'), 'missing.png']
    assert pictures(names, range(4), tmp_path / 'data') == {}
    assert 'a picture is left out' in caplog.text and '4 pictures are left out' in caplog.text


def test_pictures_called_as_their_items(tmp_path):
    pillow.new('RGB', (20, 10), 'red').save(tmp_path / 'b-2.png')
    found = pictures(find_item_images(tmp_path, ['a', 'b-2']), [0, 1], tmp_path)
    assert list(found) == [1] and opened(found[1]).size == (20, 10)


def test_a_graph_without_pictures(tmp_path):
    assert pictures(None, [0], tmp_path) == {}
