r"""Loaders: training interactions with negatives, and user rows."""
from genrec_pyg.loader.triples import InteractionLoader, Triples
from genrec_pyg.loader.user_rows import UserRowLoader, UserRows

__all__ = ['InteractionLoader', 'Triples', 'UserRowLoader', 'UserRows']
