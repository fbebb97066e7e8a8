r"""Tables of a report, as Markdown, LaTeX, HTML or JSON."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Characters that LaTeX reads as commands.
_LATEX = str.maketrans(
    {
        '&': r'\&',
        '%': r'\%',
        '$': r'\$',
        '#': r'\#',
        '_': r'\_',
        '{': r'\{',
        '}': r'\}',
        '~': r'\textasciitilde{}',
        '^': r'\textasciicircum{}',
        '\\': r'\textbackslash{}',
        '±': r'$\pm$',
        '−': '$-$',
        '≥': r'$\geq$',
        '≤': r'$\leq$',
        '–': '--',
        '<': '$<$',
        '>': '$>$',
    }
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8886; white-space:
nowrap; } th:first-child, td:first-child { text-align: left; }
caption { caption-side: top; text-align: left; padding: .5rem 0; font-weight: 600; }
"""


@dataclass(frozen=True)
class Table:
    r"""A table: the first column to the left, all others to the right.

    Args:
        title: What it shows.
        header: Names of the columns.
        rows: Cells as text.
        note: How to read it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''


@dataclass(frozen=True)
class Document:
    r"""A title, sentences and tables.

    Args:
        title: Title.
        text: Paragraphs before the tables.
        tables: Tables.
        values: The same figures unrounded, for JSON.
    """

    title: str
    text: Sequence[str]
    tables: Sequence[Table]
    values: dict[str, Any] = field(default_factory=dict)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    r"""A Markdown table: the first column to the left, all others to the right."""
    lines = [header, [':--'] + ['--:'] * (len(header) - 1), *rows]
    return '\n'.join(
        '| ' + ' | '.join(str(cell).replace('|', '\\|').replace('\n', ' ') for cell in line) + ' |'
        for line in lines
    )


def to_markdown(document: Document) -> str:
    r"""The document in Markdown; HTML in names is not rendered."""

    def plain(text: str) -> str:
        return re.sub(r'<(?=[A-Za-z/!?])', '&lt;', text)

    parts = [f'# {plain(document.title)}', *map(plain, document.text)]
    for table in document.tables:
        parts += [
            f'## {plain(table.title)}',
            *([plain(table.note)] if table.note else []),
            markdown_table(
                [plain(cell) for cell in table.header],
                [[plain(c) for c in row] for row in table.rows],
            ),
        ]
    return '\n\n'.join(parts) + '\n'


def to_latex(document: Document) -> str:
    r"""The tables in LaTeX, one ``table`` environment each; needs the package booktabs."""

    def plain(text: str) -> str:
        return text.replace('\n', ' ').translate(_LATEX)

    parts = [f'% {line}' for text in (document.title, *document.text) for line in text.splitlines()]
    parts += ['% needs \\usepackage{booktabs}']
    for table in document.tables:
        caption = ' '.join(filter(None, [f'{table.title}.', table.note]))
        parts += [
            '',
            r'\begin{table}',
            r'\centering',
            rf'\caption{{{plain(caption)}}}',
            rf'\begin{{tabular}}{{l{"r" * (len(table.header) - 1)}}}',
            r'\toprule',
            ' & '.join(map(plain, table.header)) + r' \\',
            r'\midrule',
            *(' & '.join(map(plain, row)) + r' \\' for row in table.rows),
            r'\bottomrule',
            r'\end{tabular}',
            r'\end{table}',
        ]
    return '\n'.join(parts) + '\n'


def html_table(table: Table) -> str:
    r"""One table in HTML, all text escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        scope = ' scope="col"' if tag == 'th' else ''
        return (
            '<tr>'
            + ''.join(f'<{tag}{scope}>{html.escape(cell)}</{tag}>' for cell in cells)
            + '</tr>'
        )

    note = f'<p>{html.escape(table.note)}</p>' if table.note else ''
    body = '\n'.join(line(row, 'td') for row in table.rows)
    return (
        f'<div class="scroll"><table><caption>{html.escape(table.title)}</caption>\n'
        f'<thead>{line(table.header, "th")}</thead>\n'
        f'<tbody>\n{body}\n</tbody></table></div>\n{note}'
    )


def to_html(document: Document) -> str:
    r"""The document as one HTML page that loads nothing."""
    paragraphs = '\n'.join(f'<p>{html.escape(text)}</p>' for text in document.text)
    tables = '\n'.join(map(html_table, document.tables))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(document.title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n'
        f'<h1>{html.escape(document.title)}</h1>\n{paragraphs}\n{tables}\n</body></html>\n'
    )


def to_json(document: Document) -> str:
    r"""The unrounded figures as JSON; what is infinite or no number is null."""
    return (
        json.dumps(_finite({'title': document.title, **document.values}), indent=1, allow_nan=False)
        + '\n'
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: Writers by the name of their format.
FORMATS: dict[str, Callable[[Document], str]] = {
    'markdown': to_markdown,
    'latex': to_latex,
    'html': to_html,
    'json': to_json,
}
#: Format by the suffix of a file.
SUFFIXES = {'md': 'markdown', 'tex': 'latex', 'html': 'html', 'htm': 'html', 'json': 'json'}
