"""Mutated files: every reader returns or refuses by name, and never crashes or hangs."""

import io
import random

import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.datasets.io.arrays import load_sparse_features
from genrec_pyg.encoders.item_images import decode_image
from genrec_pyg.encoders.item_tables import read_item_texts
from genrec_pyg.exceptions import GenRecError

TABLE = 'item\ttitle\n' + ''.join(f'{n}\tTitle "{n}, é\n' for n in range(20))
CSV = 'item,title\n' + ''.join(f'{n},Title {n}\n' for n in range(20))
PICKLE = (
    b'\x80\x04\x95P\x00\x00\x00\x00\x00\x00\x00\x8c\x08__main__\x94\x8c\nLMDB_Image\x94\x93'
    b'\x94)\x81\x94}\x94(\x8c\x08channels\x94K\x03\x8c\x04size\x94K\x01K\x02\x86\x94'
    b'\x8c\x05image\x94C\x06abcdef\x94\x8c\x02id\x94K\x07ub.'
)
#: Mutations of each file.
ROUNDS = 100


def mutated(content, generator):
    content = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(len(content))
        kind = generator.randrange(4)
        if kind == 0:
            content[place] = generator.randrange(256)
        elif kind == 1:
            del content[place : place + generator.randint(1, 40)]
        elif kind == 2:
            content[place:place] = generator.randbytes(generator.randint(1, 9))
        else:
            content[place:place] = content[place : place + generator.randint(1, 60)]
        content = content or bytearray(b'\0')
    return bytes(content)


def picture(kind):
    image = pytest.importorskip('PIL.Image', reason='PILLOW IS NOT INSTALLED')
    file = io.BytesIO()
    image.effect_noise((24, 18), 60).convert('RGB').save(file, kind)
    return file.getvalue()


def sparse():
    file = io.BytesIO()
    sp.save_npz(file, sp.random(8, 9, 0.3, format='csr', random_state=0, dtype=np.float32))
    return file.getvalue()


CASES = {
    'jpeg': lambda: picture('JPEG'),
    'png': lambda: picture('PNG'),
    'gif': lambda: picture('GIF'),
    'webp': lambda: picture('WEBP'),
    'pickle': lambda: PICKLE,
    'npz': sparse,
    'tsv': lambda: TABLE.encode(),
    'csv': lambda: CSV.encode(),
}


@pytest.mark.parametrize('case', CASES)
def test_mutated_files_are_read_or_refused(case, tmp_path):
    original, generator, refused = CASES[case](), random.Random(0), 0

    def read(content):
        if case in ('jpeg', 'png', 'gif', 'webp', 'pickle'):
            return decode_image(content, 'x')
        (tmp_path / 'x').write_bytes(content)
        if case == 'npz':
            return load_sparse_features(tmp_path / 'x')
        return read_item_texts(tmp_path / 'x', ['title'], on_duplicate='first')

    read(original)
    for _ in range(ROUNDS):
        try:
            read(mutated(original, generator))
        except GenRecError as error:
            refused += 1
            assert 'x' in str(error)
    assert refused > 0
