r"""Rows of many items: texts and pictures through an encoder, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrec_pyg.encoders.audio import AudioEncoder, stack_equal
from genrec_pyg.encoders.images import to_pixels
from genrec_pyg.encoders.item_images import decode_image
from genrec_pyg.encoders.parts import Part, compute_parts
from genrec_pyg.encoders.text import TextEncoder
from genrec_pyg.encoders.vision import ImageEncoder
from genrec_pyg.exceptions import ConfigError, DataError

PRECISIONS = ('auto', 'float32', 'bfloat16')
#: Reason of a text without a letter.
EMPTY = 'empty text'
MISSING = 'no picture'
SILENT = 'no sound'
#: Batches of a part.
_BATCHES = 8


class Work:
    r"""How encoders work.

    Args:
        device: Device of the encoder.
        precision: ``'float32'``, ``'bfloat16'`` (by autocast), or ``'auto'``: bfloat16 on a GPU.
        batch_size: Items per batch.
        workers: Threads that decode pictures.

    Raises:
        ConfigError: On a value outside its accepted ones.
    """

    def __init__(
        self, device: str = 'cpu', precision: str = 'auto', batch_size: int = 64, workers: int = 4
    ):
        if precision not in PRECISIONS:
            raise ConfigError(f'precision: got {precision!r}, accepted are {", ".join(PRECISIONS)}')
        for name, value in (('batch_size', batch_size), ('workers', workers)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        self.device = torch.device(device)
        if precision == 'auto':
            precision = 'bfloat16' if self.device.type == 'cuda' else 'float32'
        self.precision, self.batch_size, self.workers = precision, batch_size, workers

    def run(self, encoder: nn.Module, *inputs: Tensor) -> np.ndarray:
        r"""Rows of one batch, float32."""
        autocast = (
            torch.autocast(self.device.type, torch.bfloat16)
            if self.precision == 'bfloat16'
            else nullcontext()
        )
        with torch.inference_mode(), autocast:
            rows = encoder(*(value.to(self.device, non_blocking=True) for value in inputs))
        return rows.float().cpu().numpy()


def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    work: Work,
    name: str = 'texts',
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
) -> Part:
    r"""Encodes texts, equal ones once, in batches of like length.

    Args:
        encoder: Encoder; it is moved to the device and set to evaluation mode.
        texts: Texts ``[n]``.
        work: Device and batches.
        name: What is made, for messages.
        folder: See :func:`~genrec_pyg.encoders.parts.compute_parts`.
        identity: What decides the result beside the encoder.

    Returns:
        Rows ``[n, w]`` float32 and the places of empty texts, whose rows are zero.

    Raises:
        DataError: If the vocabulary lacks more than half of the words.
    """
    filled = np.array([bool(text.strip()) for text in texts], dtype=bool)
    distinct, number = np.unique(
        np.array([text for text in texts if text.strip()], dtype=object), return_inverse=True
    )
    x = np.zeros((len(texts), encoder.width), dtype=np.float32)
    reasons = {int(place): EMPTY for place in np.flatnonzero(~filled)}
    if len(distinct) == 0:
        return x, reasons
    tokens = encoder.token_lists(distinct.tolist())
    unknown = encoder.unknown_share(tokens)
    if unknown > 0.5:
        raise DataError(
            f'{name}: {unknown:.0%} of the words are not in the vocabulary of '
            f'{encoder.weights.name}; accepted is an encoder of this language and script'
        )
    lengths = np.array([len(one) for one in tokens])
    encoder.to(work.device).eval()

    def compute(batch: np.ndarray) -> Part:
        return work.run(encoder, *encoder.pad([tokens[place] for place in batch])), {}

    rows, _ = compute_parts(
        folder,
        _identity(encoder, work, identity),
        _parts(lengths, work),
        lengths,
        _batched(compute, work.batch_size),
        name,
    )
    x[filled] = rows[number.reshape(-1)]
    return x, reasons


def encode_images(
    encoder: ImageEncoder,
    content: Callable[[int], bytes | None],
    names: Callable[[int], str],
    number: int,
    work: Work,
    name: str = 'pictures',
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
    strict: bool = False,
) -> Part:
    r"""Encodes pictures in batches, while threads decode the next.

    Args:
        encoder: Encoder; it is moved to the device and set to evaluation mode.
        content: From a place to the bytes of its picture, :obj:`None` where there is none.
        names: From a place to what its picture is called.
        number: Number of places.
        work: Device and batches.
        name: What is made, for messages.
        folder: See :func:`~genrec_pyg.encoders.parts.compute_parts`.
        identity: What decides the result beside the encoder.
        strict: Whether the first picture that cannot be decoded is an error.

    Returns:
        Rows ``[n, w]`` float32 and reasons by place; rows with a reason are zero.

    Raises:
        DataError: On a picture that cannot be decoded, if ``strict``.
    """
    steps = encoder.preprocessing

    def decode(found: bytes, called: str) -> Tensor:
        return to_pixels(decode_image(found, called), steps.size, steps.resample)

    def run(pixels: list[Tensor]) -> np.ndarray:
        return work.run(encoder, torch.stack(pixels))

    return _encode_files(
        encoder, decode, run, content, names, number, work, name, folder, identity, strict, MISSING
    )


def encode_sounds(
    encoder: AudioEncoder,
    content: Callable[[int], bytes | None],
    names: Callable[[int], str],
    number: int,
    work: Work,
    name: str = 'sounds',
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
    strict: bool = False,
) -> Part:
    r"""Encodes sounds; arguments, result and errors as :func:`encode_images`. Those of one length
    share a batch.
    """

    def decode(found: bytes, called: str) -> Tensor:
        return encoder.prepare(encoder.samples(found, called))

    def run(inputs: list[Tensor]) -> np.ndarray:
        x = np.zeros((len(inputs), encoder.width), dtype=np.float32)
        for places, batch in stack_equal(inputs):
            x[places] = work.run(encoder, batch)
        return x

    return _encode_files(
        encoder, decode, run, content, names, number, work, name, folder, identity, strict, SILENT
    )


def _encode_files(
    encoder: ImageEncoder | AudioEncoder,
    decode: Callable[[bytes, str], Tensor],
    run: Callable[[list[Tensor]], np.ndarray],
    content: Callable[[int], bytes | None],
    names: Callable[[int], str],
    number: int,
    work: Work,
    name: str,
    folder: Path | None,
    identity: dict[str, Any] | None,
    strict: bool,
    missing: str,
) -> Part:
    def decode_one(place: int) -> Tensor | str:
        try:
            found = content(place)
            return missing if found is None else decode(found, names(place))
        except DataError as error:
            if strict:
                raise
            return str(error)

    encoder.to(work.device).eval()
    with ThreadPoolExecutor(work.workers) as pool:

        def compute(batches: np.ndarray) -> Part:
            x = np.zeros((len(batches), encoder.width), dtype=np.float32)
            reasons: dict[int, str] = {}
            # All are decoded in the background, while the first go through the encoder.
            waiting = [pool.submit(decode_one, int(place)) for place in batches]
            try:
                for begin in range(0, len(batches), work.batch_size):
                    decoded = [one.result() for one in waiting[begin : begin + work.batch_size]]
                    good = [place for place, one in enumerate(decoded) if isinstance(one, Tensor)]
                    reasons.update(
                        {
                            begin + place: one
                            for place, one in enumerate(decoded)
                            if isinstance(one, str)
                        }
                    )
                    if good:
                        x[begin + np.array(good)] = run([decoded[place] for place in good])
            finally:
                for one in waiting:
                    one.cancel()
            return x, reasons

        costs = np.ones(number)
        return compute_parts(
            folder, _identity(encoder, work, identity), _parts(costs, work), costs, compute, name
        )


def _identity(encoder: Any, work: Work, other: dict[str, Any] | None) -> dict[str, Any]:
    return {
        'encoder': encoder.describe(),
        'precision': work.precision,
        'batch_size': work.batch_size,
        **(other or {}),
    }


def _parts(lengths: np.ndarray, work: Work) -> list[np.ndarray]:
    r"""Places in parts of some batches, longest first: what memory cannot hold fails at once."""
    order = np.argsort(-lengths, kind='stable')
    size = work.batch_size * _BATCHES
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def _batched(
    compute: Callable[[np.ndarray], Part], batch_size: int
) -> Callable[[np.ndarray], Part]:
    def run(places: np.ndarray) -> Part:
        batches = [
            places[begin : begin + batch_size] for begin in range(0, len(places), batch_size)
        ]
        return np.concatenate([compute(batch)[0] for batch in batches]), {}

    return run
