r"""Interest clusters of items and the debiasing of generated interactions by them."""

from genrec_pyg.nn.cluster.debias import DebiasConfig, InterestDebias
from genrec_pyg.nn.cluster.labels import interest_labels
from genrec_pyg.nn.cluster.sklearn_kmeans import choose_num_clusters, kmeans_labels
from genrec_pyg.nn.cluster.spectral import spectral_labels

__all__ = [
    'DebiasConfig',
    'InterestDebias',
    'choose_num_clusters',
    'interest_labels',
    'kmeans_labels',
    'spectral_labels',
]
