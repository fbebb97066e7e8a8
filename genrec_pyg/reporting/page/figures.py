r"""The charts and maps of a page as PNG and SVG, by matplotlib."""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.files import write_atomically

#: Colors of runs, as the page has them.
COLORS = ('#2f6fde', '#d9631e', '#2a9d62', '#a24bbf', '#c2393d', '#7a6a1f', '#1b8aa5', '#8a8f99')


def write_figures(content: Mapping[str, Any], folder: Path) -> list[Path]:
    r"""Writes every chart and map of a page as ``NAME.png`` and ``NAME.svg``.

    Args:
        content: See :func:`~genrec_pyg.reporting.page.content.page_content`.
        folder: Folder of the files.

    Returns:
        The files.

    Raises:
        ConfigError: If matplotlib is not installed.
        OutputError: If a file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            '--figures: needs matplotlib, which is not installed; accepted is pip install '
            'matplotlib'
        ) from error
    matplotlib.use('Agg')
    found: list[Path] = []
    charts = [*content['curves'], *content['groups'], *content['figures']]
    charts += [one['chart'] for one in content['flips'].values() if 'chart' in one]
    for chart in charts:
        with _canvas(folder, chart['title'], found) as axes:
            (_lines if chart['kind'] == 'line' else _bars)(axes, chart)
    for one in content['maps']:
        with _canvas(folder, f'clusters {one["name"]}', found) as axes:
            for cluster in sorted({point[3] for point in one['points']}):
                x, y = zip(*(point[1:3] for point in one['points'] if point[3] == cluster))
                axes.scatter(x, y, s=6, color=cluster_color(cluster), linewidths=0)
            axes.invert_yaxis()
            axes.set_xticks([])
            axes.set_yticks([])
    return found


def cluster_color(cluster: int) -> tuple[float, float, float]:
    r"""Color of a cluster, as the page has it; gray for none."""
    return (
        colorsys.hls_to_rgb(cluster * 137.5 % 360 / 360, 0.5, 0.62) if cluster >= 0 else (0.6,) * 3
    )


@contextmanager
def _canvas(folder: Path, title: str, found: list[Path]) -> Iterator[Any]:
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context({'svg.hashsalt': 'genrec_pyg', 'text.parse_math': False}):
        canvas, axes = pyplot.subplots(figsize=(6, 3.6))
        try:
            yield axes
            axes.set_title(title, fontsize=10)
            for side in ('top', 'right'):
                axes.spines[side].set_visible(False)
            canvas.tight_layout()
            stem = re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')
            for suffix, options in (('png', {'dpi': 150}), ('svg', {'metadata': {'Date': None}})):
                buffer = io.BytesIO()
                canvas.savefig(buffer, format=suffix, **options)
                path = folder / f'{stem}.{suffix}'
                write_atomically(path, lambda file, content=buffer: file.write(content.getvalue()))
                found.append(path)
        finally:
            pyplot.close(canvas)


def _lines(axes: Any, chart: Mapping[str, Any]) -> None:
    for number, series in enumerate(chart['series']):
        x, y = zip(*series['points'])
        color = COLORS[number % len(COLORS)]
        axes.plot(x, y, label=series['name'], color=color, marker='o', markersize=2.5)
    axes.set_xlabel(chart['x'])
    _legend(axes)


def _bars(axes: Any, chart: Mapping[str, Any]) -> None:
    width = 0.8 / len(chart['series'])
    for number, series in enumerate(chart['series']):
        place = [group + (number + 0.5) * width - 0.4 for group in range(len(series['values']))]
        values = [value or 0.0 for value in series['values']]
        axes.bar(place, values, width, label=series['name'], color=COLORS[number % len(COLORS)])
    axes.set_xticks(range(len(chart['groups'])), chart['groups'], fontsize=8)
    axes.axhline(0, color='#888888', linewidth=0.8)
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.legend(fontsize=8, frameon=False)
    axes.grid(True, axis='y', alpha=0.25)
