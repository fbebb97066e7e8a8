"""Runs over a graph whose ids and titles try to be more than text."""

import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.nn.models import EASE, GenRec
from genrec_pyg.training import Trainer

#: What closes a script, an attribute or a comment, opens a tag, or is read as a pattern.
HOSTILE = (
    '</script><script>window.hacked = 1</script>',
    '"><img src=x onerror="window.hacked = 2">',
    "' onmouseover='window.hacked = 3",
    '<!--<script>',
    '${window.hacked = 4}',
    'javascript:window.hacked = 5',
    '@STYLE@ $& \u2028 \x00 ü 漢字',
)
SMALL = dict(
    hidden_channels=8,
    denoiser={'rank': 16},
    interest={'rank': 16},
    generation={'candidates': 'all'},
    debias={'clusters': 4, 'sample_ratio': 1.0},
)


def hostile_graph():
    """The demo data with hostile ids and titles, and pixels for pictures."""
    data = demo_graph(num_users=60, num_items=40, num_clusters=4)
    data['user'].raw_id = [f'{HOSTILE[u % len(HOSTILE)]} {u}' for u in range(60)]
    data['item'].raw_id = [f'{i} {HOSTILE[i % len(HOSTILE)]}' for i in range(40)]
    data['item'].title = [f'{HOSTILE[(i + 1) % len(HOSTILE)]} {i}' for i in range(40)]
    data['item'].image = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return data


def make_runs(folder):
    """A run of GenRec and one of EASE, made in Python; returns their folders."""
    data = hostile_graph()
    options = dict(progress=False, device='cpu', batch_size=512, trackers=[])
    Trainer(epochs=2, output=folder / 'genrec', **options).fit(GenRec(data, **SMALL), data)
    Trainer(output=folder / 'ease', **options).fit(EASE(data), data)
    return folder / 'genrec', folder / 'ease'
