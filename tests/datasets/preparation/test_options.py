"""What a preparation is asked for is checked before it begins."""

import pytest

from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.exceptions import ConfigError


@pytest.mark.parametrize(
    'wrong,message',
    [
        ({'on_bad_row': 'ignore'}, "on_bad_row: got 'ignore', accepted are error, skip"),
        ({'form': 'xml'}, "format: got 'xml', accepted are csv"),
        ({'min_rating': float('nan')}, 'min_rating: got nan'),
        ({'min_rating': float('inf')}, 'min_rating: got inf'),
        ({'k_core': -1}, 'k_core: got -1, accepted are integers from 0'),
        ({'split': 'moon'}, "split: got 'moon'"),
        ({'split': 'random:0.1'}, 'accepted are two shares'),
    ],
)
def test_what_is_out_of_range_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Options(**wrong)


def test_a_column_of_splits_counts_unless_another_split_is_asked_for():
    with_column, without = ('user', 'item', 'split'), ('user', 'item')
    assert Options().split_for(with_column) is None
    assert Options(split='column:part').split_for(with_column) is None
    assert Options(split='time').split_for(with_column) == 'time'
    assert Options().split_for(without) == 'random:0.1,0.1'
    assert Options(split='none').split_for(without) == 'none'


def test_a_report_has_a_line_per_step_and_an_example_per_reason():
    report = Report({'read': {'rows': 12_345}, '5-core': {}}, {'fields': ['a,b', 'c']})
    assert report.lines() == [
        'read    12,345 rows',
        '5-core  none',
        "for example (fields): 'a,b'",
    ]
    assert Report().lines() == []
