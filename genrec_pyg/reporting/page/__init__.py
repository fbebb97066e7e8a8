r"""The page that :mod:`genrec_pyg.report` writes: what it shows, how, and the same as pictures."""

from genrec_pyg.reporting.page.content import page_content
from genrec_pyg.reporting.page.render import render

__all__ = ['page_content', 'render']
