r"""The canonical graph: schema, checks and the training graph."""
from genrec_pyg.graph.modality import Modality, item_modality
from genrec_pyg.graph.schema import (
    HAS,
    INTERACTS,
    ITEM,
    SPLITS,
    USER,
    check_graph,
    has_split,
    modality_names,
    name_list,
    pair_keys,
    read_edges,
    read_interactions,
    read_mask,
    select_modalities,
    split_edges,
)
from genrec_pyg.graph.training_graph import TrainingGraph, check_held_out, held_out_digests, training_graph

__all__ = [
    'HAS',
    'INTERACTS',
    'ITEM',
    'Modality',
    'SPLITS',
    'TrainingGraph',
    'USER',
    'check_graph',
    'check_held_out',
    'has_split',
    'held_out_digests',
    'item_modality',
    'modality_names',
    'name_list',
    'pair_keys',
    'read_edges',
    'read_interactions',
    'read_mask',
    'select_modalities',
    'split_edges',
    'training_graph',
]
