r"""Full-ranking evaluation, one evaluator for all models."""
from genrec_pyg.evaluation.checks import check_row
from genrec_pyg.evaluation.evaluator import PROTOCOLS, Evaluator, evaluate

__all__ = ['PROTOCOLS', 'Evaluator', 'check_row', 'evaluate']
