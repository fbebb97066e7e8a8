r"""Measures again what ``benchmarks/results`` holds and says what became slower, as ratios.

.. code-block:: console

    # exit code 1 where something became slower
    python -m benchmarks.speed.regression --root DIR
    python -m benchmarks.speed.regression --root DIR --scripts kernels --tolerance 1.5

Machines differ, so times are compared after division by the machine's factor: the median of *now /
then* over the candidates of ``kernels.py`` that are not ours (torch, PyG, torch-sparse), which a
change of this package cannot move. Medians over the repeats of each script; the committed results
are not written.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common.flags import positive
from benchmarks.common.machine import thread_environment
from benchmarks.common.reports import RESULTS, markdown_table

#: Script to the flags of a measurement that is short enough to repeat.
SCRIPTS: dict[str, list[str]] = {
    'kernels': [],
    'epoch': ['--denoisers', 'default', 'tied', '--epochs', '3'],
}
OURS = ('genrec_pyg', 'ours')
#: Below this many seconds a median says more about the clock than about the code.
SHORTEST = 1e-4

logger = logging.getLogger('regression')


def medians(document: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], float]:
    r"""Every median of wall seconds in a report, by its path of keys."""
    if not isinstance(document, Mapping):
        return {}
    if isinstance(document.get('median'), (int, float)):
        return {path: float(document['median'])}
    found: dict[tuple[str, ...], float] = {}
    for key, value in document.items():
        if key not in ('raw', 'processor_seconds'):
            found.update(medians(value, (*path, str(key))))
    return found


def is_ours(path: tuple[str, ...]) -> bool:
    r"""Whether a path names a candidate of this package."""
    return any(part.startswith(OURS) for part in path)


def machine_factor(
    then: Mapping[tuple[str, ...], float], now: Mapping[tuple[str, ...], float]
) -> float:
    r"""Median of *now / then* over the candidates that are not ours.

    Raises:
        ValueError: If the reports share none.
    """
    ratios = [
        now[path] / then[path]
        for path in then.keys() & now.keys()
        if not is_ours(path) and then[path] >= SHORTEST
    ]
    if not ratios:
        raise ValueError(
            'the reports share no candidate that is not ours, so machines cannot be compared'
        )
    return statistics.median(ratios)


def compare(
    then: Mapping[tuple[str, ...], float], now: Mapping[tuple[str, ...], float], factor: float
) -> list[tuple[str, float, float, float]]:
    r"""Name, seconds then, seconds now and ratio on equal machines of everything of ours, the worst
    first.
    """
    rows = [
        (' / '.join(path), then[path], now[path], now[path] / then[path] / factor)
        for path in then.keys() & now.keys()
        if is_ours(path) and then[path] >= SHORTEST
    ]
    return sorted(rows, key=lambda row: -row[3])


def measure_again(script: str, args: argparse.Namespace) -> dict[str, object]:
    r"""Runs a script with its short flags; returns its report."""
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / script
        command = [
            sys.executable,
            '-m',
            f'benchmarks.speed.{script}',
            '--root',
            str(args.root),
            '--dataset',
            args.dataset,
            '--threads',
            str(args.threads),
            '--output',
            str(stem),
            *SCRIPTS[script],
        ]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env=thread_environment(args.threads)
        )
        return json.loads(stem.with_name(f'{script}.json').read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Says what became slower than in the committed results.'
    )
    parser.add_argument('--root', type=Path, required=True, help='folder that holds the datasets')
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--scripts', nargs='+', choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1.3,
        help='largest ratio that passes; the machine is noisy',
    )
    parser.add_argument('--results', type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    factor, rows = None, []
    # kernels give the machine's factor
    for script in ['kernels', *(name for name in args.scripts if name != 'kernels')]:
        source = args.results / f'{script}-{args.dataset}.json'
        if not source.is_file():
            parser.error(f'{source} is missing, so there is nothing to compare with')
        then, now = medians(json.loads(source.read_text())), medians(measure_again(script, args))
        factor = machine_factor(then, now) if factor is None else factor
        if script in args.scripts:
            rows += [
                (f'{script}: {name}', *figures) for name, *figures in compare(then, now, factor)
            ]
    slower = [row for row in rows if row[3] > args.tolerance]
    shown = [
        [name, f'{then * 1e3:.2f}', f'{now * 1e3:.2f}', f'{ratio:.2f}']
        for name, then, now, ratio in rows
    ]
    sys.stdout.write(
        f'This machine takes {factor:.2f} times as long as that of the committed results.\n\n'
        f'{markdown_table(["what", "then [ms]", "now [ms]", "ratio on equal machines"], shown)}\n\n'
        f'{len(slower)} of {len(rows)} slower than {args.tolerance} times before.\n'
    )
    return 1 if slower else 0


if __name__ == '__main__':
    sys.exit(main())
