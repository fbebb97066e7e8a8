r"""The report of a tuning session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genrec_pyg.utils.files import write_atomically

#: A trial: its setting, its value if it has one, and its record.
Row = tuple[Mapping[str, Any], float | None, Mapping[str, Any]]


def write_report(
    path: Path, title: str, rows: Sequence[Row], importance: Mapping[str, float], note: str = ''
) -> None:
    r"""Writes what was tried, how important every setting was, and the best value over the trials,
    as Markdown.

    Args:
        path: File.
        title: What was tuned, and by which figure.
        rows: Trials in order.
        importance: Share of every setting in what makes a trial good, by name.
        note: Sentence under the title.
    """
    lines = [f'# {title}', '', *([note, ''] if note else [])]
    values = [value for _, value, _ in rows if value is not None]
    if values:
        best = next(row for row in rows if row[1] == max(values))
        lines += [f'Best: **{best[1]:.4f}**, {_settings(best[0])}', '']
        if rows[0][1] is not None:
            lines += [f'First setting: {rows[0][1]:.4f}, {_settings(rows[0][0])}', '']
    if importance:
        lines += [
            '## Importance',
            '',
            '| setting | share |',
            '| --- | --- |',
            *(f'| `{name}` | {share:.2f} |' for name, share in importance.items()),
            '',
        ]
    lines += [
        '## Trials',
        '',
        '| trial | value | best so far | epochs | seconds | ended by | setting |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    so_far = float('-inf')
    for number, (settings, value, record) in enumerate(rows, start=1):
        so_far = so_far if value is None else max(so_far, value)
        cells = [
            number,
            '-' if value is None else f'{value:.4f}',
            '-' if so_far == float('-inf') else f'{so_far:.4f}',
            record.get('epochs', '-'),
            f'{record["seconds"]:.0f}' if 'seconds' in record else '-',
            record.get('error') or record.get('stopped') or '-',
            _settings(settings),
        ]
        lines.append(
            '| '
            + ' | '.join(' '.join(str(cell).split()).replace('|', '\\|') for cell in cells)
            + ' |'
        )
    write_atomically(path, lambda file: file.write(('\n'.join(lines) + '\n').encode()))


def _settings(settings: Mapping[str, Any]) -> str:
    return (
        ', '.join(
            f'`{name}` {value:.4g}' if isinstance(value, float) else f'`{name}` {value}'
            for name, value in settings.items()
        )
        or 'defaults'
    )
