r"""The canonical graph: schema, checks and the training graph."""
from genrec_pyg.graph.schema import (
    HAS,
    INTERACTS,
    ITEM,
    SPLITS,
    USER,
    Modality,
    TrainingGraph,
    check_graph,
    has_split,
    item_modality,
    modality_names,
    select_modalities,
    split_edges,
    training_graph,
)

__all__ = [
    'HAS',
    'INTERACTS',
    'ITEM',
    'Modality',
    'SPLITS',
    'TrainingGraph',
    'USER',
    'check_graph',
    'has_split',
    'item_modality',
    'modality_names',
    'select_modalities',
    'split_edges',
    'training_graph',
]
