import io
import random
import struct
import wave

import numpy as np
import pytest
from helpers.wave_files import RATE, riff

from genrec_pyg.encoders.waveforms import Waveform, read_waveform
from genrec_pyg.exceptions import ConfigError, DataError


def repeated(*frames, count=400):
    return b''.join(frames) * count


@pytest.mark.parametrize(
    'bits, code, frames',
    [
        (8, 1, (b'\x80', b'\xc0')),  # 128 is silence
        (16, 1, (b'\0\0', b'\0\x40')),
        (24, 1, (b'\0\0\0', b'\0\0\x40')),
        (32, 1, (b'\0\0\0\0', b'\0\0\0\x40')),
        (32, 3, (struct.pack('<f', 0), struct.pack('<f', 0.5))),
        (64, 3, (struct.pack('<d', 0), struct.pack('<d', 0.5))),
    ],
)
@pytest.mark.parametrize('extensible', [False, True])
def test_a_half_is_a_half_in_all_widths(bits, code, frames, extensible):
    found = read_waveform(
        riff(repeated(*frames), bits, code=code, extensible=extensible), 'a.wav', 1
    )
    assert found.rate == RATE and found.samples.dtype == np.float32
    assert found.samples.tolist() == [0, 0.5] * 400


def test_equals_the_standard_library_and_channels_are_averaged():
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (2000, 2)).astype('<i2')
    with wave.open(file, 'wb') as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44100)
        out.writeframes(values.tobytes())
    # the chunk LIST of an odd size, as editors write
    odd = b'LIST' + struct.pack('<I', 3) + b'abc\0'
    for content in (file.getvalue(), riff(values.tobytes(), 16, 2, 44100, more=odd)):
        found = read_waveform(content, 'a.wav', 1)
        assert np.allclose(found.samples, values.mean(axis=1) / 2**15, atol=1e-7)


def test_only_the_first_seconds_are_read():
    assert len(read_waveform(riff(bytes(2 * RATE)), 'a', 0.25).samples) == RATE // 4


@pytest.mark.parametrize('rate', [8000, 11025, 44100, 44101, 48000, 96000])
def test_a_tone_keeps_its_pitch_and_level_at_another_rate(rate):
    time = np.arange(rate) / rate
    tone = Waveform(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate).at(16000)
    assert abs(len(tone) - 16000) <= 1
    spectrum = np.abs(np.fft.rfft(tone[:16000], 16000)) / 8000
    assert spectrum.argmax() == 440 and spectrum[440] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'a.wav: is empty'),
        (b'RIFF', "a.wav: starts with b'RIFF' and b''"),
        (riff(b'')[:18], "header is truncated, it has no chunk 'fmt '"),
        (riff(b'')[:30], "its chunk 'fmt ' has 10 bytes, accepted are 16 or more"),
        (riff(bytes(900))[:38], "header is truncated, it has no chunk 'data'"),
        (riff(bytes(900))[:500], 'is truncated, announces 900 bytes of samples and has 456'),
        (riff(b''), 'has 0 samples at 8000 Hz, accepted are sounds of at least 25 ms'),
        (riff(bytes(300)), 'has 150 samples at 8000 Hz'),
        (riff(bytes(900), rate=0), 'has 0 samples per second, accepted are 4000 to 384000'),
        (riff(bytes(900), rate=10**9), 'has 1000000000 samples per second'),
        (riff(bytes(900), bits=12), 'has samples of 12 bits in format 1, accepted are whole'),
        (riff(bytes(900), bits=4, code=2), 'has samples of 4 bits in format 2'),
        (riff(bytes(900), channels=0), 'announces 0 channels'),
        (riff(bytes(900), frame=3), 'announces 1 channels of 16 bits in 3 bytes'),
        (riff(b'\0\0\xc0\x7f' * 900, 32, code=3), 'has samples that are not finite'),
        (b'RIFX' + riff(bytes(900))[4:], "starts with b'RIFX'"),
        (b'\x89PNG' + bytes(900), 'is no sound by its first bytes'),
    ],
)
def test_what_is_wrong_is_named(content, message):
    with pytest.raises(DataError, match=message):
        read_waveform(content, 'a.wav', 30)


def test_a_recorder_that_streams_announces_no_end():
    content = bytearray(riff(repeated(b'\0\x40', count=800)))
    place = content.index(b'data') + 4
    content[place : place + 4] = b'\xff\xff\xff\xff'
    assert read_waveform(bytes(content), 'a', 30).samples.tolist() == [0.5] * 800


def test_mutated_files_are_read_or_refused():
    generator, good = random.Random(0), riff(repeated(b'\0\x40', b'\0\0'))
    for _ in range(500):
        content = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(48)] = generator.randrange(256)
        try:
            found = read_waveform(bytes(content), 'a.wav', 5)
            assert np.isfinite(found.samples).all()
        except DataError:
            pass


def test_other_formats_name_their_package(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'soundfile', None)
    with pytest.raises(ConfigError, match=r'reading FLAC needs the package soundfile.*\[audio\]'):
        read_waveform(b'fLaC' + bytes(100), 'a.flac', 30)


@pytest.mark.parametrize('kind', ['FLAC', 'OGG'])
def test_other_formats_by_soundfile(kind):
    soundfile = pytest.importorskip('soundfile')
    file = io.BytesIO()
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    soundfile.write(file, np.stack([tone, tone], axis=1), RATE, format=kind)
    found = read_waveform(file.getvalue(), f'a.{kind}', 0.5)
    assert found.rate == RATE and len(found.samples) == RATE // 2
    assert np.abs(found.samples - tone[: RATE // 2]).max() < 0.1
    with pytest.raises(DataError, match='cannot be decoded|samples'):
        read_waveform(file.getvalue()[:30], f'a.{kind}', 0.5)
