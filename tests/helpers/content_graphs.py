"""Graphs whose items have titles."""

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.items import ItemSide, make_items
from helpers.sequence_graphs import sequence_data

#: Eleven titles of two to six tokens; the last item has no interaction in training.
TITLES = [
    'the best',
    'rain',
    'the best selling games',
    'news',
    'games',
    'the news',
    'best rain',
    'selling news',
    'the rain',
    'best games',
    'the selling rain',
]


def titled_data(**arguments):
    data = sequence_data(**arguments)
    data['item'].title = list(TITLES)
    return data


def titled_items(folder, channels=8, data=None, **settings):
    """An encoder's item side over :data:`TITLES`."""
    graph = training_graph(titled_data() if data is None else data, contents=['title'])
    return make_items(graph, channels, ItemSide('encoder', str(folder), **settings))
