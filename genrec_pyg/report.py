r"""Writes one page about runs that works offline: ``python -m genrec_pyg.report RUN [RUN ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from genrec_pyg.config.build import Run, load_run
from genrec_pyg.encoders.item_images import find_item_images
from genrec_pyg.encoders.item_tables import read_item_texts
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, has_split, raw_ids
from genrec_pyg.reporting.page import page_content, render
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, check_writable, write_atomically, write_stdout


def report(argv: Sequence[str]) -> Path:
    r"""Writes a page as the command line asks; returns its file."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.report',
        allow_abbrev=False,
        description='Writes one HTML page about runs of the same data: learning curves, results '
        'beside reference models, recall by user activity and item popularity, coverage, a map of '
        'interest clusters, flips and debiasing, and a browser through users. It loads nothing.',
    )
    parser.add_argument('run', nargs='+', type=path_argument, help='folders of runs')
    parser.add_argument(
        '--output', type=path_argument, help='file of the page (default: RUN/report.html)'
    )
    parser.add_argument(
        '--figures', type=path_argument, help='folder for the charts as PNG and SVG too'
    )
    parser.add_argument(
        '--split', default='test', choices=('val', 'test'), help='held-out interactions'
    )
    parser.add_argument('--k', type=int, default=20, help='length of the lists')
    parser.add_argument('--num_users', type=int, default=40, help='users to browse through')
    parser.add_argument('--users', nargs='+', default=[], help='raw ids of further users')
    parser.add_argument(
        '--titles', type=path_argument, help='table of items with titles: CSV, TSV or Parquet'
    )
    parser.add_argument('--title_column', default='title', help='its column of titles')
    parser.add_argument(
        '--pictures',
        type=path_argument,
        help='folder of pictures that are called as their items, such as 17.jpg, or an LMDB file',
    )
    parser.add_argument(
        '--root', type=path_argument, help='folder of the datasets, where it has moved since'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    if arguments.k < 1 or arguments.num_users < 0:
        raise ConfigError(
            f'--k, --num_users: got {arguments.k}, {arguments.num_users}, accepted are integers '
            'from 1 and from 0'
        )
    check_stdout()
    output = Path(arguments.output or Path(arguments.run[0]) / 'report.html')
    runs, folders = load_runs(arguments.run, arguments.root, arguments.device)
    check_writable(output)
    for name, run in runs.items():
        if not has_split(run.data, arguments.split):
            raise ConfigError(f'RUN: {folders[name]} has no {arguments.split} interaction')
    titles = images = None
    if arguments.titles is not None:
        table = read_item_texts(Path(arguments.titles), [arguments.title_column], None, 'first')
        titles = {str(item): texts[0] for item, texts in zip(table.ids, table.texts) if texts}
    if arguments.pictures is not None:
        ids = raw_ids(next(iter(runs.values())).data, ITEM)
        images = find_item_images(Path(arguments.pictures), [str(item) for item in ids])
    content = page_content(
        runs,
        folders,
        arguments.split,
        arguments.k,
        arguments.num_users,
        list(dict.fromkeys(arguments.users)),
        titles,
        images,
    )
    page = render(content)
    write_atomically(output, lambda file: file.write(page.encode()))
    lines = [f'page {output} ({len(page) / 1e6:.1f} MB)']
    if arguments.figures is not None:
        from genrec_pyg.reporting.page.figures import write_figures

        found = write_figures(content, Path(arguments.figures))
        lines.append(f'{len(found)} pictures in {arguments.figures}')
    write_stdout('\n'.join(lines) + '\n')
    return output


def load_runs(
    folders: Sequence[str], root: str | None, device: str
) -> tuple[dict[str, Run], dict[str, Path]]:
    r"""Loads runs by the names that a page gives them: model, and folder where models are equal.

    Raises:
        ConfigError: If one is given twice.
    """
    paths = [Path(folder).resolve() for folder in folders]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ConfigError(f'RUN: {folders[number]} is given twice, accepted is once')
    loaded = [load_run(folder, root, device) for folder in folders]
    models = [run.config.model.rpartition(':')[2] for run in loaded]
    names = [
        model if models.count(model) == 1 else f'{model} {path.name}'
        for model, path in zip(models, paths)
    ]
    names = [
        name if names.count(name) == 1 else f'{name} {number}'
        for number, name in enumerate(names, start=1)
    ]
    return dict(zip(names, loaded)), dict(zip(names, paths))


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(report, argv)


if __name__ == '__main__':
    sys.exit(main())
