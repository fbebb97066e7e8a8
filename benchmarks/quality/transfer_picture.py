r"""Picture of ``results/transfer.json``: GenRec beside the best other models of every dataset.

``benchmarks.quality.transfer`` draws it with its report, and
``python -m benchmarks.quality.transfer_picture`` again from a report: ``results/transfer.svg``, a
panel per dataset with bars of the mean test Recall@20. Bars start at 0 and have one scale per
panel, since recalls of different datasets are not comparable. The colors follow the scheme of the
reader, light or dark.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.common.reports import RESULTS

#: Other models shown per dataset.
NUM_OTHERS = 3
#: Panels beside each other, and sizes in pixels of the drawing.
COLUMNS, PANEL, BAR, NAME, LONGEST, MARGIN = 2, 410, 18, 92, 170, 8

STYLE = """
text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.base { fill: #1f6feb; }
.other { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .base { fill: #58a6ff; }
  .other { fill: #6e7681; }
}
"""

#: Name, mean, and deviation over the seeds where there are several.
Bar = tuple[str, float, float | None]


def bars(systems: dict[str, dict[str, dict[str, Any]]], base: str = 'GenRec') -> list[Bar]:
    r"""``base`` and the :data:`NUM_OTHERS` best other models of a dataset, best first among these.

    Args:
        systems: Runs by model and seed, each with ``test``.
        base: The model shown first.
    """
    found: list[Bar] = []
    for name, runs in systems.items():
        tests = [entry['test'] for entry in runs.values()]
        deviation = statistics.stdev(tests) if len(tests) > 1 else None
        found.append((name, statistics.mean(tests), deviation))
    others = sorted((bar for bar in found if bar[0] != base), key=lambda bar: -bar[1])
    return [bar for bar in found if bar[0] == base] + others[:NUM_OTHERS]


def picture(document: dict[str, Any]) -> str:
    r"""The picture as SVG, of the datasets on which GenRec and others were measured."""
    panels = {
        dataset: bars(systems)
        for dataset, systems in document['runs'].items()
        if 'GenRec' in systems and len(systems) > 1
    }
    height = BAR * (NUM_OTHERS + 2) + 2 * MARGIN
    rows = -(-len(panels) // COLUMNS)
    size = COLUMNS * PANEL, rows * height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}" height="{size[1]}" role="img">',
        '<title>Test Recall@20 of GenRec without settings and of the best other models</title>',
        f'<style>{STYLE}</style>',
    ]
    for place, (dataset, found) in enumerate(panels.items()):
        left = place % COLUMNS * PANEL + MARGIN
        top = place // COLUMNS * height + MARGIN
        parts.append(f'<text class="title" x="{left}" y="{top + 13}">{escape(dataset)}</text>')
        longest = max(mean for _, mean, _ in found)
        for row, (name, mean, deviation) in enumerate(found, start=1):
            y = top + row * BAR
            width = round(LONGEST * mean / longest, 1)
            label = f'{mean:.4f}' + ('' if deviation is None else f' ± {deviation:.4f}')
            kind = 'base' if name == 'GenRec' else 'other'
            parts += [
                f'<text x="{left}" y="{y + 13}">{escape(name)}</text>',
                f'<rect class="{kind}" x="{left + NAME}" y="{y + 3}" width="{width}" '
                f'height="{BAR - 5}" rx="2"/>',
                f'<text x="{left + NAME + width + 6:.1f}" y="{y + 13}">{label}</text>',
            ]
    return '\n'.join([*parts, '</svg>', ''])


def main(argv: Sequence[str] | None = None) -> None:
    r"""Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--report', type=Path, default=RESULTS / 'transfer.json', help='report')
    args = parser.parse_args(argv)
    document = json.loads(args.report.read_text())
    args.report.with_suffix('.svg').write_text(picture(document), encoding='utf-8')


if __name__ == '__main__':
    main()
