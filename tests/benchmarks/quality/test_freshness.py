"""Growing data, and the report of both curves."""

import argparse

import numpy as np

from benchmarks.common.machine import machine
from benchmarks.quality.freshness import known_until, report
from genrec_pyg.graph import INTERACTS, split_edges


def test_the_last_of_what_is_known_is_held_out():
    user, item = np.arange(40) % 7, np.arange(40) % 11
    data = known_until((user, item, np.arange(40)), 20)
    assert data[INTERACTS].edge_index.size(1) == 20
    assert [split_edges(data, split).size(1) for split in ('train', 'val', 'test')] == [17, 1, 2]
    assert split_edges(data, 'test').tolist() == [[4, 5], [7, 8]]


def test_the_report_has_a_line_per_part_and_a_panel_per_model(tmp_path):
    first = {
        'part': 0,
        'interactions': 1000,
        'test users': 9,
        'of them with training interactions': 7,
        'from nothing': 0.2,
        'seconds': 4.0,
        'epochs': 3,
    }
    second = {
        **first,
        'part': 1,
        'no step': 0.15,
        'fresh': 0.19,
        'fresh seconds': 0.8,
        'fresh epochs': 1,
        'ratio': 0.95,
    }
    found = {
        'ml-100k': {'MFBPR': [first, second]},
        'lfm2k': {'MFBPR': [first], 'LightGCN': [first]},
    }
    arguments = argparse.Namespace(output=tmp_path, seed=0, epochs=30)
    report(arguments, machine(1), found)
    text = (tmp_path / 'freshness.md').read_text()
    line = next(line for line in text.splitlines() if '0.95' in line)
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[0] == 'ml-100k, MFBPR' and cells[2:] == [
        '9 (7)',
        '0.2000',
        '4.0 (3)',
        '0.1500',
        '0.1900',
        '0.8 (1)',
        '0.95',
    ]
    assert 'lfm2k, LightGCN' in (tmp_path / 'freshness.svg').read_text()
