r"""Full-ranking evaluation, one evaluator for all models."""

from genrec_pyg.evaluation.evaluator import PROTOCOLS, Evaluator, check_scores, evaluate
from genrec_pyg.evaluation.per_user import PerUser, read_per_user, write_per_user
from genrec_pyg.evaluation.plausibility import check_row
from genrec_pyg.evaluation.significance import Comparison, holm, paired_comparison

__all__ = [
    'PROTOCOLS',
    'Comparison',
    'Evaluator',
    'PerUser',
    'check_row',
    'check_scores',
    'evaluate',
    'holm',
    'paired_comparison',
    'read_per_user',
    'write_per_user',
]
