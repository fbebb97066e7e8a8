r"""The training loop, early stopping, checkpoints and logs."""

from genrec_pyg.runs.checkpoint import load_checkpoint, save_checkpoint
from genrec_pyg.training.distributed import Distributed
from genrec_pyg.training.early_stopping import EarlyStopping
from genrec_pyg.training.launch import launch
from genrec_pyg.training.seed import rng_state, seed_everything, set_rng_state
from genrec_pyg.training.session import FitResult
from genrec_pyg.training.trainer import Trainer

__all__ = [
    'Distributed',
    'EarlyStopping',
    'FitResult',
    'Trainer',
    'launch',
    'load_checkpoint',
    'rng_state',
    'save_checkpoint',
    'seed_everything',
    'set_rng_state',
]
