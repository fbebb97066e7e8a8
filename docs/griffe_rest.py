r"""Lets the API reference show docstrings as they are written: roles, math and links of
reStructuredText become Markdown.

Docstrings follow torch_geometric (``:class:`Adjacency```, ``.. math::``), pages are Markdown; an
extension of griffe, which mkdocs.yml names, translates while the reference is built.
"""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r':(?:class|func|meth|attr|data|mod|obj):`(~?)([^`]+)`')
MATH = re.compile(r':math:`([^`]+)`')
LINK = re.compile(r'`([^`<]+?)\s*<(https?://[^>`]+)>`_+')
DIRECTIVE = re.compile(r'^( *)\.\. (math|code-block)::(.*)$')


def inline(text: str) -> str:
    r"""Translates roles, math and links within one text."""
    text = MATH.sub(r'\\(\1\\)', text)
    text = ROLE.sub(
        lambda match: f'`{match[2].rsplit(".", 1)[-1] if match[1] else match[2]}`', text
    )
    return LINK.sub(r'[\1](\2)', text)


def translate(text: str) -> str:
    r"""Translates a docstring; indented blocks of math and code are fenced where they stand."""
    lines, found, position = text.split('\n'), [], 0
    prose: list[str] = []

    def flush() -> None:
        if prose:
            found.append(inline('\n'.join(prose)))
            prose.clear()

    while position < len(lines):
        match = DIRECTIVE.match(lines[position])
        position += 1
        if match is None:
            prose.append(lines[position - 1])
            continue
        flush()
        indent, kind, argument = match.groups()
        block = [argument.strip()] if kind == 'math' and argument.strip() else []
        while position < len(lines) and (
            not lines[position].strip() or lines[position].startswith(indent + ' ')
        ):
            block.append(
                lines[position][len(indent) :].strip()
                if kind == 'math'
                else lines[position][len(indent) + 4 :]
            )
            position += 1
        body = '\n'.join(block).strip('\n').split('\n')
        opening, closing = (r'\[', r'\]') if kind == 'math' else (f'```{argument.strip()}', '```')
        found.append(
            '\n'.join([indent, *(f'{indent}{line}' for line in (opening, *body, closing)), indent])
        )
    flush()
    return '\n'.join(found)


class RestToMarkdown(griffe.Extension):
    r"""Translates every docstring that is collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        r"""Translates the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = translate(obj.docstring.value)
