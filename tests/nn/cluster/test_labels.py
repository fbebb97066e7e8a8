import pytest

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.cluster import interest_labels


def test_one_number_serves_all_modalities(tiny_graph):
    labels = interest_labels(training_graph(tiny_graph).modalities, 2)
    assert list(labels) == ['image', 'text']
    assert all(
        label.shape == (7,) and label.unique().tolist() == [0, 1] for label in labels.values()
    )


def test_mapping_with_a_default_and_names_that_are_absent(tiny_graph):
    labels = interest_labels(training_graph(tiny_graph).modalities, {'text': 3, 'audio': 46})
    # 20, but there are 7 items
    assert labels['text'].unique().numel() == 3 and labels['image'].unique().numel() == 7


@pytest.mark.parametrize('clusters', ['spectral', 'eigengap'])
def test_fused_clusters(tiny_graph, clusters):
    labels = interest_labels(training_graph(tiny_graph).modalities, clusters)
    assert list(labels) == ['fused'] and labels['fused'].shape == (7,)


def test_missing_modality_has_no_cluster(tiny_graph):
    edges = tiny_graph['item', 'has', 'text'].edge_index
    tiny_graph['item', 'has', 'text'].edge_index = edges[:, edges[0] != 4]
    labels = interest_labels(training_graph(tiny_graph).modalities, 2)
    assert (labels['text'] == -1).nonzero().tolist() == [[4]] and labels['image'].min() == 0


def test_without_modalities_and_with_bad_values(tiny_graph):
    assert interest_labels({}, 5) == {}
    for clusters in ('many', 0, {'text': 'eigengap'}, [3, 4]):
        with pytest.raises(ConfigError, match='clusters: got'):
            interest_labels(training_graph(tiny_graph).modalities, clusters)
