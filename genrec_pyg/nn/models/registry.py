r"""The one table of models: command-line name, family, paper and what a model needs.

The README table, ``--model``, the shared tests and the leaderboard read it. To add a model, write
its module, its YAML file of settings and its test, and add one entry here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.plugins import installed, is_place, load_place

if TYPE_CHECKING:
    from genrec_pyg.nn.models.recommender import Recommender


class Entry(NamedTuple):
    r"""A registered model.

    Args:
        module: Module below ``genrec_pyg.nn.models``, ``FAMILY.MODULE``; imported on first use, so
            that the imports of one model never delay another.
        paper: Short title and venue of the source.
        link: Where the source can be opened.
        needs_modality: Whether the model needs at least one modality.
        needs_time: Whether the model reads the order of interactions.
        trained: Whether the model is trained by gradient (otherwise it is fitted in its
            constructor).
    """

    module: str
    paper: str
    link: str
    needs_modality: bool = False
    needs_time: bool = False
    trained: bool = True

    @property
    def family(self) -> str:
        r"""``'reference'``, ``'collaborative'``, ``'multimodal'`` or ``'sequential'``."""
        return self.module.partition('.')[0]


#: Registered models by command-line name, in the order of tables.
MODELS: dict[str, Entry] = {
    'GenRec': Entry(
        'multimodal.genrec',
        'Flip is Better than Noise, ACM MM 2025',
        'https://doi.org/10.1145/3746027.3755734',
    ),
    'Popularity': Entry(
        'reference.popularity', 'Number of training interactions', '', trained=False
    ),
    'ItemKNN': Entry(
        'reference.item_knn',
        'Item-based Collaborative Filtering, WWW 2001',
        'https://doi.org/10.1145/371920.372071',
        trained=False,
    ),
    'ItemKNNCBF': Entry(
        'reference.item_knn_cbf',
        'Content neighbors, RecSys 2019',
        'https://arxiv.org/abs/1907.06902',
        needs_modality=True,
        trained=False,
    ),
    'EASE': Entry(
        'reference.ease',
        'Embarrassingly Shallow Autoencoders, WWW 2019',
        'https://arxiv.org/abs/1905.03375',
        trained=False,
    ),
    'GraphFilter': Entry(
        'reference.graph_filter',
        'Turbo-CF, SIGIR 2024',
        'https://arxiv.org/abs/2404.14243',
        trained=False,
    ),
    'AddEASE': Entry(
        'reference.add_ease',
        'Closed-Form Models with Side-Information, RecSys 2020',
        'https://doi.org/10.1145/3383313.3418480',
        needs_modality=True,
        trained=False,
    ),
    'FeaturePriorEASE': Entry(
        'reference.feature_prior_ease',
        'LLM-Enhanced Linear Autoencoders, CIKM 2025',
        'https://arxiv.org/abs/2508.13500',
        needs_modality=True,
        trained=False,
    ),
    'MFBPR': Entry(
        'collaborative.mf_bpr',
        'Bayesian Personalized Ranking, UAI 2009',
        'https://arxiv.org/abs/1205.2618',
    ),
    'LightGCN': Entry(
        'collaborative.light_gcn', 'LightGCN, SIGIR 2020', 'https://arxiv.org/abs/2002.02126'
    ),
    'SGL': Entry(
        'collaborative.sgl',
        'Self-supervised Graph Learning, SIGIR 2021',
        'https://arxiv.org/abs/2010.10783',
    ),
    'NGCF': Entry(
        'collaborative.ngcf',
        'Neural Graph Collaborative Filtering, SIGIR 2019',
        'https://arxiv.org/abs/1905.08108',
    ),
    'NCL': Entry(
        'collaborative.ncl',
        'Neighborhood-enriched Contrastive Learning, WWW 2022',
        'https://arxiv.org/abs/2202.06200',
    ),
    'HCCF': Entry(
        'collaborative.hccf',
        'Hypergraph Contrastive Collaborative Filtering, SIGIR 2022',
        'https://arxiv.org/abs/2204.12200',
    ),
    'CLCRec': Entry(
        'multimodal.clcrec',
        'Contrastive Learning for Cold-Start, ACM MM 2021',
        'https://arxiv.org/abs/2107.05315',
        needs_modality=True,
    ),
    'MMGCL': Entry(
        'multimodal.mmgcl',
        'Multi-modal Graph Contrastive Learning, SIGIR 2022',
        'https://doi.org/10.1145/3477495.3532027',
        needs_modality=True,
    ),
    'LayerGCN': Entry(
        'collaborative.layer_gcn',
        'Layer-refined GCN, ICDE 2023',
        'https://arxiv.org/abs/2207.11088',
    ),
    'SELFCFED': Entry(
        'collaborative.selfcfed', 'SelfCF, TORS 2023', 'https://arxiv.org/abs/2107.03019'
    ),
    'VBPR': Entry(
        'multimodal.vbpr',
        'Visual BPR, AAAI 2016',
        'https://arxiv.org/abs/1510.01784',
        needs_modality=True,
    ),
    'MMGCN': Entry(
        'multimodal.mmgcn',
        'Multi-modal GCN, ACM MM 2019',
        'https://doi.org/10.1145/3343031.3351034',
        needs_modality=True,
    ),
    'GRCN': Entry(
        'multimodal.grcn',
        'Graph-Refined Convolutional Network, ACM MM 2020',
        'https://arxiv.org/abs/2008.10032',
        needs_modality=True,
    ),
    'SLMRec': Entry(
        'multimodal.slmrec',
        'Self-supervised Learning for Multimedia, TMM 2022',
        'https://doi.org/10.1109/TMM.2022.3187556',
        needs_modality=True,
    ),
    'LGCNM': Entry(
        'multimodal.lgcnm',
        'LightGCN with content in its item rows, after SIGIR 2020',
        'https://arxiv.org/abs/2002.02126',
    ),
    'BM3': Entry(
        'multimodal.bm3',
        'Bootstrap Latent Representations, WWW 2023',
        'https://arxiv.org/abs/2207.05969',
    ),
    'FREEDOM': Entry(
        'multimodal.freedom',
        'Freezing and Denoising Graph Structures, ACM MM 2023',
        'https://arxiv.org/abs/2211.06924',
        needs_modality=True,
    ),
    'MGCN': Entry(
        'multimodal.mgcn', 'Multi-View GCN, ACM MM 2023', 'https://arxiv.org/abs/2308.03588'
    ),
    'DualGNN': Entry(
        'multimodal.dualgnn',
        'Dual Graph Neural Network, TMM 2021',
        'https://doi.org/10.1109/TMM.2021.3138298',
        needs_modality=True,
    ),
    'DiffMM': Entry(
        'multimodal.diffmm',
        'Multi-Modal Diffusion Model, ACM MM 2024',
        'https://arxiv.org/abs/2406.11781',
        needs_modality=True,
    ),
    'LATTICE': Entry(
        'multimodal.lattice',
        'Mining Latent Structures, ACM MM 2021',
        'https://arxiv.org/abs/2104.09036',
        needs_modality=True,
    ),
    'DRAGON': Entry(
        'multimodal.dragon',
        'Dyadic Relations with Homogeneous Graphs, ECAI 2023',
        'https://arxiv.org/abs/2301.12097',
        needs_modality=True,
    ),
    'MVGAE': Entry(
        'multimodal.mvgae',
        'Multi-Modal Variational Graph Auto-Encoder, TMM 2021',
        'https://doi.org/10.1109/TMM.2021.3111487',
        needs_modality=True,
    ),
    'LGMRec': Entry(
        'multimodal.lgmrec',
        'Local and Global Graph Learning, AAAI 2024',
        'https://arxiv.org/abs/2312.16400',
        needs_modality=True,
    ),
    'DAMRS': Entry(
        'multimodal.damrs',
        'Denoising and Aligning Content and Feedback, KDD 2024',
        'https://arxiv.org/abs/2406.12501',
        needs_modality=True,
    ),
    'SMORE': Entry(
        'multimodal.smore',
        'Spectrum-based Modality Fusion GCN, WSDM 2025',
        'https://arxiv.org/abs/2412.14978',
        needs_modality=True,
    ),
    'PGL': Entry(
        'multimodal.pgl',
        'Principal Graph Learning, AAAI 2025',
        'https://github.com/demonph10/PGL',
        needs_modality=True,
    ),
    'MMGCF': Entry(
        'multimodal.mmgcf',
        'Multimodal Graph Collaborative Filtering, UMAP 2026',
        'https://doi.org/10.1145/3774935.3806158',
    ),
    'GUME': Entry(
        'multimodal.gume',
        'Graphs and User Modalities Enhancement, CIKM 2024',
        'https://arxiv.org/abs/2407.12338',
        needs_modality=True,
    ),
    'MMHCL': Entry(
        'multimodal.mmhcl',
        'Multi-Modal Hypergraph Contrastive Learning, TOMM 2025',
        'https://arxiv.org/abs/2504.16576',
        needs_modality=True,
    ),
    'SASRec': Entry(
        'sequential.sasrec',
        'Self-Attentive Sequential Recommendation, ICDM 2018',
        'https://arxiv.org/abs/1808.09781',
        needs_time=True,
    ),
    'GRU4Rec': Entry(
        'sequential.gru4rec',
        'Session-based Recommendations with RNNs, ICLR 2016',
        'https://arxiv.org/abs/1511.06939',
        needs_time=True,
    ),
    'DSSM': Entry(
        'sequential.dssm',
        'Deep Structured Semantic Models, CIKM 2013',
        'https://doi.org/10.1145/2505515.2505665',
    ),
    'MIND': Entry(
        'sequential.mind',
        'Multi-Interest Network with Dynamic Routing, CIKM 2019',
        'https://arxiv.org/abs/1904.08030',
        needs_time=True,
    ),
    'ComiRecSA': Entry(
        'sequential.comirec',
        'Controllable Multi-Interest Framework, KDD 2020',
        'https://arxiv.org/abs/2005.09347',
        needs_time=True,
    ),
    'REMI': Entry(
        'sequential.remi',
        'Rethinking Multi-Interest Learning, RecSys 2023',
        'https://doi.org/10.1145/3604915.3608766',
        needs_time=True,
    ),
}


#: Group of the entry points by which an installed package adds models under short names.
ENTRY_POINTS = 'genrec_pyg.models'


def get_model(name: str) -> type[Recommender]:
    r"""Returns the model class called ``name``.

    It is one of :data:`MODELS`, one that an installed package names as an entry point of the group
    ``genrec_pyg.models``, or any other by its place, ``'package.module:Class'``, which is imported.

    Raises:
        ConfigError: If there is none, which lists the names, or it is no
            :class:`~genrec_pyg.nn.models.Recommender`.
    """
    if name in MODELS:
        return getattr(importlib.import_module(f'genrec_pyg.nn.models.{MODELS[name].module}'), name)
    if not isinstance(name, str):
        raise ConfigError(f'model: got {name!r}, accepted is a name')
    others = installed(ENTRY_POINTS)
    place = others.get(name, name)
    if not is_place(place):
        raise ConfigError(
            f'model: got {name!r}, accepted are {", ".join([*MODELS, *others])} or '
            f'package.module:Class'
        )
    model = load_place('model', place, name)
    from genrec_pyg.nn.models.recommender import Recommender

    if not (isinstance(model, type) and issubclass(model, Recommender)):
        raise ConfigError(
            f'model: got {name!r}, accepted is a subclass of genrec_pyg.nn.models.Recommender'
        )
    return model


def model_name(model: type[Recommender]) -> str:
    r"""The name by which :func:`get_model` finds a class."""
    name = model.__name__
    if name in MODELS and get_model(name) is model:
        return name
    place = f'{model.__module__}:{model.__qualname__}'
    return next(
        (
            short
            for short, value in installed(ENTRY_POINTS).items()
            if value.replace(' ', '') == place
        ),
        place,
    )
