r"""Full-ranking evaluation, one evaluator for all models."""
from genrec_pyg.evaluation.evaluator import PROTOCOLS, Evaluator, check_scores, evaluate
from genrec_pyg.evaluation.plausibility import check_row

__all__ = ['PROTOCOLS', 'Evaluator', 'check_row', 'check_scores', 'evaluate']
