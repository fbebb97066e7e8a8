r"""A page as one file that loads nothing."""

from __future__ import annotations

import html
import json
import math
from importlib import resources
from typing import Any

import genrec_pyg


def render(content: dict[str, Any]) -> str:
    r"""Returns the page as HTML.

    All that comes from data lies in one block of JSON, in which no tag can begin or end; the script
    of the page puts it into the document as text. The policy of the page forbids every address
    outside and every script but its own.

    Args:
        content: See :func:`~genrec_pyg.reporting.page.content.page_content`.
    """
    folder = resources.files('genrec_pyg.reporting.page') / 'templates'
    style, script, page = (
        (folder / name).read_text('utf-8') for name in ('report.css', 'report.js', 'report.html')
    )
    data = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    for character in '<>&\u2028\u2029':
        data = data.replace(character, f'\\u{ord(character):04x}')
    parts = {
        'TITLE': html.escape(content['title']),
        'VERSION': html.escape(genrec_pyg.__version__),
        'STYLE': style,
        'DATA': data,
        'SCRIPT': script,
    }
    for name in ('TITLE', 'VERSION', 'STYLE', 'SCRIPT', 'DATA'):  # what comes from data, last
        page = page.replace(f'@{name}@', parts[name], 2 if name == 'TITLE' else 1)
    return page


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
