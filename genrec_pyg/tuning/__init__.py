r"""Search spaces and resumable studies."""
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
from genrec_pyg.tuning.validation import PATHS, Path, Tuned, ValidationRecall, tune_on_validation

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
