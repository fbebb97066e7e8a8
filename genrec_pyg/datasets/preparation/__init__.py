r"""Prepared folders: from raw logs of any size to files that a training reads."""

from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.datasets.preparation.prepare import prepare_log

__all__ = ['Options', 'Report', 'prepare_log']
