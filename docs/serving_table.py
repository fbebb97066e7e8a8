r"""Writes the table of what bundles of each model can into docs/guides/serving.md:
``python docs/serving_table.py``.

Every registered model is built on a small demo graph and taken apart as an export does. With
``--check`` nothing is written and the exit code is 1 if the table is out of date.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from genrec_pyg.datasets import demo_graph  # noqa: E402
from genrec_pyg.nn.models import MODELS, get_model  # noqa: E402
from genrec_pyg.serving.program import make_programs  # noqa: E402
from genrec_pyg.serving.tables import model_tables  # noqa: E402

PAGE = ROOT / 'docs' / 'guides' / 'serving.md'
BEGIN, END = '<!-- abilities: begin -->', '<!-- abilities: end -->'
COLUMNS = ('similar', 'fold_in', 'rank', 'user', 'history')


def abilities(name: str) -> tuple[bool, ...]:
    r"""Whether a model can what :data:`COLUMNS` say."""
    data = demo_graph(num_users=60, num_items=48, num_clusters=4)
    store = data['user', 'interacts', 'item']
    store.time = torch.arange(store.edge_index.size(1))
    model = get_model(name)(data).eval()
    described, tables, _ = model_tables(model, data)
    _, unable = make_programs({**described, 'num_users': 60, 'num_items': 48}, tables, [], 10)
    return tuple(column not in {**described['unable'], **unable} for column in COLUMNS)


def table() -> str:
    r"""The table, models of equal abilities in one row, in the order of the registry."""
    groups: dict[tuple[bool, ...], list[str]] = {}
    for name in MODELS:
        groups.setdefault(abilities(name), []).append(f'`{name}`')
    header = (
        '| models | `/similar` | `/fold-in` | `/rank` | program of users | program of histories |'
    )
    rows = [
        '| ' + ' | '.join([', '.join(names), *('yes' if can else '-' for can in group)]) + ' |'
        for group, names in groups.items()
    ]
    return '\n'.join([header, '| :-- |' + ' :-- |' * len(COLUMNS), *rows])


def main(argv: list[str] | None = None) -> int:
    r"""Writes the table, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; exit code 1 if the table is out of date',
    )
    check = parser.parse_args(argv).check
    head, _, rest = PAGE.read_text().partition(BEGIN)
    text = f'{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}'
    if check and text != PAGE.read_text():
        print(
            'docs/guides/serving.md is out of date: run python docs/serving_table.py',
            file=sys.stderr,
        )
        return 1
    if not check:
        PAGE.write_text(text)
    return 0


if __name__ == '__main__':
    logging.getLogger('genrec_pyg').setLevel(logging.ERROR)
    sys.exit(main())
