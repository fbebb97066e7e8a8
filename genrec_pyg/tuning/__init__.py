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

__all__ = [
    'Choice',
    'Range',
    'Settings',
    'SHARED',
    'STARTUP_TRIALS',
    'Tuner',
    'require_optuna',
    'search_space',
    'setting_flags',
    'suggest',
]
