r"""Checks for the tests of models, of this package and of others."""

from genrec_pyg.testing.check_model import check_model, toy_graph

__all__ = ['check_model', 'toy_graph']
