r"""Turns titles, pictures, sounds and tags into features:
``python -m genrec_pyg.encode SOURCE --output FILE``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from genrec_pyg.datasets.io.feature_files import check_ending
from genrec_pyg.encoders.audio import LOG_MEL, AudioEncoder
from genrec_pyg.encoders.item_images import find_item_images
from genrec_pyg.encoders.item_tables import DUPLICATES, Ids, read_item_texts
from genrec_pyg.encoders.rows import PRECISIONS, Work
from genrec_pyg.encoders.tasks import (
    BAD_ITEMS,
    Encoded,
    bag_to_rows,
    images_to_rows,
    save_encoded,
    sounds_to_rows,
    texts_to_rows,
)
from genrec_pyg.encoders.text import POOLING, TextEncoder
from genrec_pyg.encoders.vision import NORMS, ImageEncoder
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.training.device import resolve_device
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, check_writable, write_stdout

KINDS = ('text', 'images', 'audio', 'words', 'tags')
#: Endings of sounds.
SOUNDS = ('.wav', '.flac', '.ogg', '.mp3')
#: Flags that mean something for some kinds only, by their name in the namespace.
_ONLY = {
    'columns': ('text', 'words', 'tags'),
    'item': ('text', 'words', 'tags'),
    'on_duplicate': ('text', 'words', 'tags'),
    'unescape': ('text', 'words', 'tags'),
    'items': ('images', 'audio'),
    'norm': ('images',),
    'workers': ('images', 'audio'),
    'encoder': ('text', 'images', 'audio'),
    'device': ('text', 'images', 'audio'),
    'precision': ('text', 'images', 'audio'),
    'batch_size': ('text', 'images', 'audio'),
    'seconds': ('audio',),
    'pooling': ('text',),
    'max_length': ('text',),
    'lowercase': ('text',),
    'separator': ('tags',),
    'channels': ('words', 'tags'),
    'sparse': ('words', 'tags'),
    'min_df': ('words', 'tags'),
}


def make_parser() -> argparse.ArgumentParser:
    r"""Flags of the command."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.encode',
        allow_abbrev=False,
        argument_default=None,
        description='Makes a feature file that train reads beside a log or in a prepared folder. '
        'An interrupted call goes on where it was.',
    )
    add = parser.add_argument
    add(
        'source',
        type=path_argument,
        help='table of items (TSV, CSV, Parquet), folder of pictures or sounds '
        'called as their items, or LMDB file',
    )
    add(
        '--output',
        type=path_argument,
        required=True,
        help='NAME.npy or NAME.parquet, with --sparse NAME.npz; NAME is the modality',
    )
    add('--kind', choices=KINDS, help='default: images for folders and LMDB files, else text')
    add(
        '--columns',
        nargs='+',
        metavar='NAME',
        help='columns of texts or tags (default: title); positions from 1 where there is no header',
    )
    add('--item', metavar='NAME', help='column of item ids (default: one with a usual name)')
    add(
        '--items',
        type=path_argument,
        metavar='FILE',
        help='items that should have a picture or sound, one id per line (default: those that do)',
    )
    add(
        '--encoder',
        metavar='NAME',
        help='folder, package or OWNER/NAME of the Hugging Face hub '
        '(default: minilm, efficientnet-lite0, log-mel)',
    )
    add('--pooling', choices=sorted(POOLING), help='default: as the encoder was trained')
    add('--seconds', type=float, help='most seconds of a sound, from its start (default: 30)')
    add('--max_length', type=int, help='most tokens of a text')
    add('--lowercase', action='store_true', default=None, help='lowercases texts first')
    add('--norm', choices=('model', *NORMS), help='values of pixels (default: model)')
    add('--separator', help='what stands between tags, such as |')
    add('--channels', type=int, help='width of reduced words or tags (default: 128)')
    add('--sparse', action='store_true', default=None, help='keeps words or tags sparse')
    add('--min_df', type=int, help='fewest items that have a word (default: 2) or tag (1)')
    add(
        '--on_bad_item',
        choices=BAD_ITEMS,
        default='error',
        help='items without a text or a readable picture or sound: refused, left out, or zero',
    )
    add(
        '--on_duplicate',
        choices=DUPLICATES,
        help='rows of one item: refused, the first taken, or '
        'joined (default: error, for tags join)',
    )
    add('--unescape', action='store_true', default=None, help='turns HTML entities into letters')
    add('--device', help='default: auto')
    add('--precision', choices=PRECISIONS, help='default: auto, bfloat16 on a GPU')
    add('--batch_size', type=int, help='items per batch (default: 64)')
    add('--workers', type=int, help='threads that decode pictures or sounds (default: 4)')
    add('--debug', action='store_true', help='show tracebacks')
    return parser


def encode(argv: Sequence[str]) -> None:
    r"""Makes a feature file as the command line asks and prints one line about it."""
    arguments = make_parser().parse_args(argv)
    check_stdout()
    source, output = Path(arguments.source), Path(arguments.output)
    if not source.exists():
        raise DataError(
            f'{source}: is not there, accepted is a table, a folder of pictures or an LMDB file'
        )
    if arguments.kind is None:
        is_lmdb = source.suffix in ('.lmdb', '.mdb')
        arguments.kind = 'images' if source.is_dir() or is_lmdb else 'text'
    for flag, kinds in _ONLY.items():
        if getattr(arguments, flag) is not None and arguments.kind not in kinds:
            raise ConfigError(
                f'--{flag}: means nothing for --kind {arguments.kind}, accepted with '
                f'{", ".join(kinds)}'
            )
    check_ending(output, bool(arguments.sparse))
    check_writable(output)
    encoded = (
        _bag(arguments, source)
        if arguments.kind in ('words', 'tags')
        else _rows(arguments, source, output)
    )
    command = f'python -m genrec_pyg.encode {shlex.join(argv)}'
    line = save_encoded(encoded, output, source, arguments.on_bad_item, {'command': command})
    write_stdout(f'{line}\n')


def _bag(arguments: argparse.Namespace, source: Path) -> Encoded:
    default = 'join' if arguments.kind == 'tags' else 'error'
    found = read_item_texts(
        source,
        arguments.columns or ['title'],
        arguments.item,
        arguments.on_duplicate or default,
        bool(arguments.unescape),
    )
    if arguments.sparse and arguments.channels is not None:
        raise ConfigError(
            f'--channels: got {arguments.channels} with --sparse, accepted is one of the two'
        )
    channels = None if arguments.sparse else arguments.channels or 128
    return bag_to_rows(
        found,
        arguments.kind,
        arguments.on_bad_item,
        channels,
        arguments.separator,
        arguments.min_df,
    )


def _rows(arguments: argparse.Namespace, source: Path, output: Path) -> Encoded:
    work = Work(
        str(resolve_device(arguments.device or 'auto')),
        arguments.precision or 'auto',
        arguments.batch_size or 64,
        arguments.workers or 4,
    )
    if arguments.kind == 'images':
        pictures = find_item_images(source, _wanted(arguments.items))
        encoder = ImageEncoder.from_pretrained(
            arguments.encoder or 'efficientnet-lite0', arguments.norm or 'model'
        )
        return images_to_rows(encoder, pictures, work, arguments.on_bad_item, output)
    if arguments.kind == 'audio':
        if not source.is_dir():
            raise DataError(f'{source}: is no folder, accepted is a folder of sounds')
        sounds = find_item_images(source, _wanted(arguments.items), SOUNDS, 'sound')
        seconds = 30.0 if arguments.seconds is None else arguments.seconds
        audio = AudioEncoder.from_pretrained(arguments.encoder or LOG_MEL, seconds)
        return sounds_to_rows(audio, sounds, work, arguments.on_bad_item, output)
    texts = read_item_texts(
        source,
        arguments.columns or ['title'],
        arguments.item,
        arguments.on_duplicate or 'error',
        bool(arguments.unescape),
    )
    encoder = TextEncoder.from_pretrained(
        arguments.encoder or 'minilm',
        arguments.pooling,
        arguments.max_length,
        bool(arguments.lowercase),
    )
    return texts_to_rows(encoder, texts, work, arguments.on_bad_item, output)


def _wanted(file: str | None) -> Ids | None:
    if file is None:
        return None
    try:
        lines = Path(file).read_text('utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'--items: {file} cannot be read ({error}), accepted is one id per line'
        ) from error
    wanted = [line.strip() for line in lines if line.strip()]
    if len(set(wanted)) != len(wanted) or not wanted:
        raise ConfigError(
            f'--items: {file} has {len(wanted)} ids, {len(set(wanted))} of them distinct; '
            'accepted are distinct ids, one per line'
        )
    return wanted


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(encode, argv)


if __name__ == '__main__':
    sys.exit(main())
