r"""Hook of mkdocs: the pages of the API reference, made from what the packages export whenever the
pages are built.
"""

from __future__ import annotations

import importlib
import inspect

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from genrec_pyg.nn.models import MODELS, Recommender, get_model

#: Page to its title and packages.
PAGES = {
    'graph': ('Graph', ['genrec_pyg.graph']),
    'datasets': ('Datasets', ['genrec_pyg.datasets']),
    'transforms': ('Transforms', ['genrec_pyg.transforms']),
    'encoders': ('Encoders', ['genrec_pyg.encoders']),
    'loader': ('Loaders', ['genrec_pyg.loader']),
    'ops': ('Kernels', ['genrec_pyg.ops']),
    'layers': ('Layers', ['genrec_pyg.nn.conv', 'genrec_pyg.nn.sequence', 'genrec_pyg.nn.cluster']),
    'items': ('Item sides', ['genrec_pyg.nn.items']),
    'losses': ('Losses', ['genrec_pyg.nn.losses']),
    'diffusion': ('Diffusion', ['genrec_pyg.nn.diffusion']),
    'interest': ('Generated interest', ['genrec_pyg.nn.interest', 'genrec_pyg.nn.closed_form']),
    'optim': ('Optimizers', ['genrec_pyg.optim']),
    'training': ('Training', ['genrec_pyg.training']),
    'evaluation': ('Evaluation', ['genrec_pyg.evaluation']),
    'retrieval': ('Retrieval', ['genrec_pyg.retrieval']),
    'config': ('Configuration', ['genrec_pyg.config']),
    'tuning': ('Tuning', ['genrec_pyg.tuning']),
    'testing': ('Testing your own model', ['genrec_pyg.testing']),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    r"""Adds the pages below ``reference`` to those on disk."""
    for name, text in {
        **{name: page(*entry) for name, entry in PAGES.items()},
        'models': models(),
    }.items():
        files.append(File.generated(config, f'reference/{name}.md', content=text))
    return files


def page(title: str, packages: list[str]) -> str:
    r"""Text of a page: every package with its exported classes and functions in alphabetical
    order.
    """
    parts = [f'# {title}']
    for package in packages:
        module = importlib.import_module(package)
        members = sorted({name: getattr(module, name) for name in module.__all__}.items())
        parts += [
            f'## {package}',
            (module.__doc__ or '').split('\n')[0],
            *(
                directive(value)
                for _, value in members
                if inspect.isclass(value) or inspect.isfunction(value)
            ),
        ]
    return '\n\n'.join(parts)


def models() -> str:
    r"""Text of the page of models, by family, after what all of them have."""
    parts = ['# Models', directive(Recommender)]
    for family in dict.fromkeys(entry.family for entry in MODELS.values()):
        names = sorted(name for name, entry in MODELS.items() if entry.family == family)
        parts += [f'## {family.capitalize()}', *(directive(get_model(name)) for name in names)]
    return '\n\n'.join(parts)


def directive(value: object) -> str:
    r"""What mkdocstrings replaces by the documentation of a class or function."""
    return f'::: {value.__module__}.{value.__qualname__}'
