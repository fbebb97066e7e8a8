r"""Hook of mkdocs: the notebooks with the outputs that they were committed with, as pages."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files: Files, config: MkDocsConfig) -> Files:
    r"""Adds a page, and its pictures, for every notebook; the notebook itself can be downloaded."""
    for path in sorted((Path(config.docs_dir) / 'notebooks').glob('*.ipynb')):
        text, resources = MarkdownExporter().from_filename(str(path))
        name = f'notebooks/{path.stem}'
        for picture, content in resources['outputs'].items():
            text = text.replace(f'({picture})', f'({path.stem}/{picture})')
            files.append(File.generated(config, f'{name}/{picture}', content=content))
        note = f'[Download this notebook]({path.name}); its outputs are those of one execution.\n\n'
        title, _, rest = text.lstrip().partition('\n')
        files.append(File.generated(config, f'{name}.md', content=f'{title}\n\n{note}{rest}'))
    return files
