r"""Reading of sounds from outside: WAV by its chunks, other formats by the package soundfile."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from genrec_pyg.encoders.extras import require
from genrec_pyg.encoders.images import MAX_BYTES
from genrec_pyg.exceptions import DataError

#: Samples per second that are accepted.
RATES = (4_000, 384_000)
#: Shortest sound in seconds: a window of 25 ms.
SHORTEST = 0.025
_MOST_CHANNELS = 64
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
#: Bits per sample by the code of the format.
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
_OTHERS = {b'fLaC': 'FLAC', b'OggS': 'Ogg', b'ID3': 'MP3', b'\xff\xfb': 'MP3', b'\xff\xf3': 'MP3'}


class Waveform(NamedTuple):
    r"""A sound with one channel.

    Args:
        samples: float32 ``[n]`` in about [-1, 1].
        rate: Samples per second.
    """

    samples: np.ndarray
    rate: int

    def at(self, rate: int) -> np.ndarray:
        r"""The sound with ``rate`` samples per second, float32, by a polyphase filter."""
        if rate == self.rate:
            return self.samples
        # an odd rate would need a filter of millions of taps; the pitch is off by 1e-6 at most
        ratio = Fraction(rate, self.rate).limit_denominator(1000)
        found = resample_poly(self.samples, ratio.numerator, ratio.denominator)
        return found.astype(np.float32)


def read_waveform(content: bytes, name: str, seconds: float) -> Waveform:
    r"""Decodes a sound: its first seconds, the mean of its channels.

    WAV with whole samples of 8, 16, 24 or 32 bits or floats of 32 or 64 bits is read here; FLAC,
    Ogg and MP3 need the package soundfile.

    Args:
        content: Content of the file.
        name: What it is called in messages.
        seconds: Most seconds that are read, from the start.

    Raises:
        ConfigError: If the package soundfile is needed and not installed.
        DataError: If it is damaged, of another format, empty or too short, or not finite.
    """
    if not content:
        raise DataError(f'{name}: is empty, accepted is a sound')
    if len(content) > MAX_BYTES:
        raise DataError(f'{name}: has more than {MAX_BYTES} bytes, accepted are sounds up to that')
    if content[:4] in (b'RIFF', b'RIFX', b'RF64'):
        samples, rate = _read_wave(content, name, seconds)
    else:
        kind = next((kind for magic, kind in _OTHERS.items() if content.startswith(magic)), None)
        if kind is None:
            raise DataError(
                f'{name}: is no sound by its first bytes ({content[:4]!r}), accepted are WAV, '
                f'FLAC, Ogg and MP3'
            )
        samples, rate = _read_other(content, name, seconds, kind)
    if len(samples) < SHORTEST * rate:
        raise DataError(
            f'{name}: has {len(samples)} samples at {rate} Hz, accepted are sounds of at least '
            f'{1000 * SHORTEST:.0f} ms'
        )
    mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if not np.isfinite(mono).all():
        raise DataError(f'{name}: has samples that are not finite, accepted are numbers')
    return Waveform(mono, rate)


def _read_wave(content: bytes, name: str, seconds: float) -> tuple[np.ndarray, int]:
    if content[:4] != b'RIFF' or content[8:12] != b'WAVE':
        raise DataError(
            f'{name}: starts with {content[:4]!r} and {content[8:12]!r}, accepted is a RIFF file '
            f'of the kind WAVE'
        )
    place, layout = 12, None
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], struct.unpack_from('<I', content, place + 4)[0]
        start = place + 8
        if kind == b'fmt ':
            layout = _layout(content[start : start + size], name)
        elif kind == b'data':
            if layout is None:
                break
            # recorders that stream announce all there could be
            if start + size > len(content) and size < 0xFFFFFF00:
                raise DataError(
                    f'{name}: is truncated, announces {size} bytes of samples and has '
                    f'{len(content) - start}; accepted are whole files'
                )
            return _samples(content, start, min(size, len(content) - start), layout, seconds)
        place = start + size + size % 2
    missing = 'fmt ' if layout is None else 'data'
    raise DataError(
        f'{name}: its header is truncated, it has no chunk {missing!r}; accepted are whole WAV '
        f'files'
    )


class _Layout(NamedTuple):
    code: int
    channels: int
    rate: int
    bits: int


def _layout(chunk: bytes, name: str) -> _Layout:
    if len(chunk) < 16:
        raise DataError(f"{name}: its chunk 'fmt ' has {len(chunk)} bytes, accepted are 16 or more")
    code, channels, rate, _, frame, bits = struct.unpack_from('<HHIIHH', chunk)
    if code == _EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack_from('<H', chunk, 24)
    if bits not in _BITS.get(code, ()):
        raise DataError(
            f'{name}: has samples of {bits} bits in format {code}, accepted are whole numbers '
            f'(format 1) of 8, 16, 24 and 32 bits and floats (format 3) of 32 and 64'
        )
    if not 1 <= channels <= _MOST_CHANNELS or frame != channels * bits // 8:
        raise DataError(
            f'{name}: announces {channels} channels of {bits} bits in {frame} bytes, accepted are '
            f'1 to {_MOST_CHANNELS} channels and their size'
        )
    _check_rate(rate, name)
    return _Layout(code, channels, rate, bits)


def _check_rate(rate: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f'{name}: has {rate} samples per second, accepted are {RATES[0]} to {RATES[1]}'
        )


def _samples(
    content: bytes, start: int, size: int, layout: _Layout, seconds: float
) -> tuple[np.ndarray, int]:
    r"""Samples ``[n, channels]`` and their rate."""
    width = layout.bits // 8
    frames = min(size // (width * layout.channels), int(seconds * layout.rate))
    raw = np.frombuffer(content, np.uint8, frames * layout.channels * width, start)
    if layout.code == _FLOAT:
        values = raw.view(f'<f{width}').astype(np.float32)
    elif layout.bits == 8:  # the only one without a sign
        values = (raw.astype(np.float32) - 128) / 128
    else:
        # into the upper bytes of 32 bits
        whole = np.zeros((frames * layout.channels, 4), np.uint8)
        whole[:, 4 - width :] = raw.reshape(-1, width)
        values = whole.view('<i4')[:, 0].astype(np.float32) / 2**31
    return values.reshape(frames, layout.channels), layout.rate


def _read_other(content: bytes, name: str, seconds: float, kind: str) -> tuple[np.ndarray, int]:
    soundfile = require('soundfile', 'audio', f'reading {kind}')
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            _check_rate(rate, name)
            if channels > _MOST_CHANNELS:
                raise DataError(
                    f'{name}: has {channels} channels, accepted are up to {_MOST_CHANNELS}'
                )
            return file.read(int(seconds * rate), dtype='float32', always_2d=True), rate
    except DataError:
        raise
    except Exception as error:  # damage can lead a decoder anywhere
        raise DataError(
            f'{name}: cannot be decoded ({str(error)[:200]}), accepted are whole files of WAV, '
            f'FLAC, Ogg and MP3'
        ) from error
