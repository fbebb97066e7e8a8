import io

import numpy as np
import pytest
import torch

from genrec_pyg.encoders import ImageEncoder, TextEncoder
from genrec_pyg.encoders.rows import MISSING, Work, encode_images, encode_texts
from genrec_pyg.exceptions import ConfigError, DataError

TEXTS = ['the best', 'news', 'the best', ' ', 'rain games the best news', 'selling']


def test_rows_do_not_depend_on_their_batch(text_folder, monkeypatch):
    encoder = TextEncoder.from_pretrained(text_folder('bert'))
    sizes = []
    forward = encoder.forward
    monkeypatch.setattr(
        encoder, 'forward', lambda ids, mask: sizes.append(ids.shape) or forward(ids, mask)
    )
    x, reasons = encode_texts(encoder, TEXTS, Work(batch_size=2))
    assert sizes == [(2, 7), (2, 3)]  # equal texts once, by length
    assert reasons == {3: 'empty text'} and not x[3].any() and (x[0] == x[2]).all()
    with torch.no_grad():
        alone = forward(*encoder.tokenize([TEXTS[4]])).numpy()
    assert np.allclose(x[4], alone, atol=1e-6)
    none, reasons = encode_texts(encoder, ['', ' '], Work())
    assert none.shape == (2, 16) and len(reasons) == 2


def test_bfloat16_is_close_and_comes_as_float32(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder('bert'))
    exact, coarse = (
        encode_texts(encoder, TEXTS, Work(precision=name))[0] for name in ('float32', 'bfloat16')
    )
    assert coarse.dtype == np.float32 and 0 < np.abs(exact - coarse).max() < 0.1


def test_an_encoder_of_another_language_is_refused(text_folder):
    encoder = TextEncoder.from_pretrained(text_folder('bert'))
    with pytest.raises(DataError, match='100% of the words are not in the vocabulary'):
        encode_texts(encoder, ['Привет мир', 'рекомендации'], Work())


def test_wrong_ways_of_working_are_refused():
    with pytest.raises(ConfigError, match="precision: got 'half', accepted are auto, float32"):
        Work(precision='half')
    with pytest.raises(ConfigError, match='batch_size: got 0'):
        Work(batch_size=0)


def test_pictures_and_what_is_none(image_folder):
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((40, 40), 80).save(file, 'PNG')
    contents = [file.getvalue(), None, b'damaged', file.getvalue()]
    encoder = ImageEncoder.from_pretrained(image_folder('vit'))

    def run(strict):
        return encode_images(
            encoder, contents.__getitem__, 'picture {}'.format, 4, Work(batch_size=3), strict=strict
        )

    x, reasons = run(False)
    assert sorted(reasons) == [1, 2] and reasons[1] == MISSING and 'picture 2' in reasons[2]
    with torch.no_grad():
        expected = encoder(encoder.pixels(contents[0])[None])[0].numpy()
    assert np.allclose(x[[0, 3]], expected, atol=1e-6) and not x[1:3].any()
    with pytest.raises(DataError, match='picture 2: cannot be decoded'):
        run(True)
