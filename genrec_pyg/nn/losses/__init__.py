r"""Losses: ranking, contrastive, penalties, chunked."""
from genrec_pyg.nn.losses.ranking import (
    ROW_PENALTIES,
    bank_contrast,
    batch_l2,
    bpr_loss,
    challenged_contrast,
    cosine_distance,
    first_of_list,
    grouped_info_nce,
    hinge_loss,
    loss_in_parts,
    row_penalty,
    squared_norm,
)

__all__ = [
    'ROW_PENALTIES',
    'bank_contrast',
    'batch_l2',
    'bpr_loss',
    'challenged_contrast',
    'cosine_distance',
    'first_of_list',
    'grouped_info_nce',
    'hinge_loss',
    'loss_in_parts',
    'row_penalty',
    'squared_norm',
]
