r"""Search spaces and resumable studies."""

from genrec_pyg.evaluation.search_paths import PATHS, Path
from genrec_pyg.evaluation.validation_search import Tuned, ValidationRecall, tune_on_validation
from genrec_pyg.tuning.study import (
    SHARED,
    STARTUP_TRIALS,
    Choice,
    Range,
    Settings,
    Tuner,
    require_optuna,
    search_space,
    setting_flags,
    suggest,
)

__all__ = [
    'Choice',
    'PATHS',
    'Path',
    'Range',
    'Settings',
    'SHARED',
    'STARTUP_TRIALS',
    'Tuned',
    'Tuner',
    'ValidationRecall',
    'require_optuna',
    'search_space',
    'setting_flags',
    'suggest',
    'tune_on_validation',
]
