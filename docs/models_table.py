r"""Writes the tables of models in README.md and docs/models from the registry:
``python docs/models_table.py``.

With ``--check`` nothing is written and the exit code is 1 if a file is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from genrec_pyg.nn.models.registry import MODELS, Entry  # noqa: E402

BEGIN, END = '<!-- models: begin -->', '<!-- models: end -->'
FAMILIES = {
    'reference': 'Models without gradient training. They are fitted when they are built and set '
    'the bar: a trained model that does not beat them is not worth its cost. `train` prints the '
    'main ones next to every result.',
    'collaborative': 'Models of the interactions alone.',
    'multimodal': 'Models that read features of the items as well: images, text, audio or any '
    'other modality.',
    'sequential': 'Models that read the order of the interactions. The dataset needs times, or '
    'lines in the order of time.',
}


def needs(entry: Entry) -> str:
    r"""What a model needs besides interactions."""
    wanted = ['modality'] * entry.needs_modality + ['time'] * entry.needs_time
    return ', '.join(wanted) or '-'


def paper(entry: Entry) -> str:
    r"""Title of the source, linked where it can be."""
    return f'[{entry.paper}]({entry.link})' if entry.link else entry.paper


def readme_table() -> str:
    r"""Table of all models, one line each."""
    rows = [
        f'| `{name}` | {entry.family} | {paper(entry)} | {needs(entry)} |'
        for family in FAMILIES
        for name, entry in MODELS.items()
        if entry.family == family
    ]
    return '\n'.join(['| model | family | source | needs |', '| :-- | :-- | :-- | :-- |', *rows])


def family_page(family: str) -> str:
    r"""Page of one family."""
    entries = {name: entry for name, entry in MODELS.items() if entry.family == family}
    rows = [
        f'| `{name}` | {paper(entry)} | {needs(entry)} | `genrec_pyg.nn.models.{entry.module}` |'
        for name, entry in entries.items()
    ]
    first = next(iter(entries), 'GenRec')
    parts = [
        f'# {family.capitalize()} models',
        FAMILIES[family],
        '\n'.join(['| model | source | needs | module |', '| :-- | :-- | :-- | :-- |', *rows]),
        'The docstring of a class gives its equations and arguments. Every argument is a flag, and '
        f'`genrec_pyg/config/defaults/{family}/MODEL.yaml` holds the settings with their source:',
        f'    python -m genrec_pyg.train --model {first} --print_config\n'
        f'    python -c "from genrec_pyg.nn import {first}; help({first})"',
        'Differences from public implementations: [parity](../parity.md).',
        '*Written by `python docs/models_table.py` from the registry.*',
    ]
    return '\n\n'.join(parts) + '\n'


def pages() -> dict[Path, str]:
    r"""Content of every generated file.

    Raises:
        ValueError: If README.md lacks the two markers.
    """
    readme = (ROOT / 'README.md').read_text()
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f'README.md: {BEGIN} and {END} must occur once each')
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    made = {ROOT / 'README.md': f'{head}{BEGIN}\n{readme_table()}\n{END}{tail}'}
    return made | {
        ROOT / 'docs' / 'models' / f'{family}.md': family_page(family) for family in FAMILIES
    }


def outdated() -> list[str]:
    r"""Generated files whose content is not that of the registry."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in pages().items()
        if not path.is_file() or path.read_text() != text
    ]


def main(argv: list[str] | None = None) -> int:
    r"""Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit code 1 if a file is out of date'
    )
    stale = outdated()
    if parser.parse_args(argv).check:
        for name in stale:
            print(f'{name} is out of date: run python docs/models_table.py', file=sys.stderr)
        return int(bool(stale))
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
