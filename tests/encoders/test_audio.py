import json
import math

import numpy as np
import pytest
import torch
from helpers.wave_files import riff

from genrec_pyg.encoders.audio import AudioEncoder, LogMelStatistics, mel_bands, stack_equal
from genrec_pyg.encoders.rows import SILENT, Work, encode_sounds
from genrec_pyg.exceptions import ConfigError, DataError


def tone(frequency, amplitude=1.0, seconds=0.5, rate=16000):
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * frequency * time)).float()


def test_bands_are_triangles_on_the_mel_scale():
    bands = mel_bands()
    assert bands.shape == (201, 64) and float(bands.max()) <= 1
    assert bool((bands.sum(dim=0) > 0).all())
    # between the first and the last center the triangles of all bands sum to 1
    wide = mel_bands(8, 4096)
    center = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 10) / 2595) - 1)
    frequency = torch.linspace(0, 8000, 2049)
    inner = (frequency > center[1]) & (frequency < center[-2])
    assert torch.allclose(wide.sum(dim=1)[inner], torch.ones(int(inner.sum())), atol=1e-4)


def test_a_tone_is_in_its_band_at_its_power():
    """1000 Hz is a frequency of the transform: power 1/4 at amplitude 1."""
    encoder = LogMelStatistics()
    loud, soft = encoder(torch.stack([tone(1000), tone(1000, 0.5)]))
    assert encoder.width == 128 == loud.numel()
    band = int(loud[:64].argmax())
    assert band == int(mel_bands()[25].argmax())
    assert float(loud[band]) == pytest.approx(
        math.log(0.25 * float(mel_bands()[24:27, band] @ torch.tensor([0.25, 1, 0.25]))), abs=1e-3
    )
    assert float(loud[band] - soft[band]) == pytest.approx(math.log(4), abs=1e-4)
    assert float(loud[64 + band]) == pytest.approx(0, abs=1e-3)  # steady


def test_silence_is_the_floor():
    row = LogMelStatistics()(torch.zeros(1, 8000))[0]
    assert torch.allclose(row[:64], torch.full((64,), math.log(1e-6)))
    assert torch.equal(row[64:], torch.zeros(64))


def test_equal_shapes_are_stacked():
    found = stack_equal([torch.zeros(3), torch.ones(2), torch.ones(3)])
    assert [places for places, _ in found] == [[0, 2], [1]]
    assert found[0][1].tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.fixture(scope='module')
def audio_folder(tmp_path_factory):
    transformers = pytest.importorskip('transformers')

    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        sizes = {'num_hidden_layers': 1, 'num_attention_heads': 2, 'intermediate_size': 32}
        if kind == 'wav2vec2':
            config = transformers.Wav2Vec2Config(
                hidden_size=16,
                conv_dim=(8, 8),
                conv_kernel=(10, 3),
                conv_stride=(5, 2),
                num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2,
                **sizes,
            )
            transformers.Wav2Vec2Model(config).save_pretrained(folder)
            transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        else:
            config = transformers.ASTConfig(
                hidden_size=16, max_length=64, num_mel_bins=32, patch_size=16, **sizes
            )
            transformers.ASTModel(config).save_pretrained(folder)
            transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize('kind', ['wav2vec2', 'ast'])
def test_networks_of_a_folder_give_rows_that_do_not_depend_on_the_batch(kind, audio_folder):
    encoder = AudioEncoder.from_pretrained(audio_folder(kind))
    assert (encoder.width, encoder.rate) == (16, 16000)
    files = [
        riff(np.int16(9000 * tone(f, seconds=s, rate=8000).numpy()).tobytes())
        for f, s in ((440, 0.5), (880, 0.3), (660, 0.5))
    ]
    work = Work(batch_size=3)
    together, reasons = encode_sounds(encoder, files.__getitem__, str, 3, work)
    assert together.shape == (3, 16) and not reasons and np.isfinite(together).all()
    for place, file in enumerate(files):
        alone, _ = encode_sounds(encoder, lambda _, file=file: file, str, 1, work)
        assert np.allclose(alone[0], together[place], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)
    assert encoder.describe()['kind'] == 'audio' and len(encoder.describe()['revision']) == 16


def test_sounds_and_what_is_none():
    good = riff(np.int16(9000 * tone(440, rate=8000).numpy()).tobytes())
    files = [good, None, good[:60], good]
    x, reasons = encode_sounds(LogMelStatistics(), files.__getitem__, str, 4, Work(batch_size=2))
    assert reasons[1] == SILENT and 'is truncated' in reasons[2] and set(reasons) == {1, 2}
    assert (x[1:3] == 0).all() and np.array_equal(x[0], x[3]) and x[0].any()
    with pytest.raises(DataError, match='2: is truncated'):
        encode_sounds(LogMelStatistics(), files.__getitem__, str, 4, Work(), strict=True)


def test_what_is_no_audio_encoder_is_refused(audio_folder, text_folder):
    with pytest.raises(ConfigError, match='seconds: got 0, accepted are 0.1 to 3600'):
        AudioEncoder.from_pretrained(seconds=0)
    with pytest.raises(DataError, match='has no preprocessor_config.json'):
        AudioEncoder.from_pretrained(text_folder('bert'))
    folder = audio_folder('wav2vec2')
    (folder / 'preprocessor_config.json').write_text(json.dumps({'feature_extractor_type': 'x'}))
    with pytest.raises(DataError, match='has no usable preprocessor_config.json'):
        AudioEncoder.from_pretrained(folder)
    (folder / 'model.safetensors').unlink()
    with pytest.raises(DataError, match='has no weights'):
        AudioEncoder.from_pretrained(folder)
