import pytest

from benchmarks.scale import sampled
from genrec_pyg.datasets import demo_graph


def test_a_run_measures_quality_time_and_what_is_read():
    data = demo_graph(60, 40, num_clusters=4)
    full, one = (sampled.run(data, fan, 0, 2, 64) for fan in (None, 1))
    for found in (full, one):
        assert 0 <= found['test'] <= 1 and found['seconds'] > 0
    assert (full['nodes'], full['entries']) == (1, 1)
    assert 0 < one['nodes'] <= 1 and 0 < one['entries'] < 1


def test_the_report_has_means_and_deviations():
    row = dict(validation=0.1, test=0.2, epoch=3, seconds=1.5, nodes=0.5, entries=0.25)
    text = sampled.markdown(
        {
            'machine': sampled.machine(1),
            'epochs': 4,
            'seeds': [0, 1],
            'datasets': {'shop': {'full': [row, {**row, 'test': 0.4}], 'fan 5': [row]}},
        }
    )
    assert '| full | 0.1000 ± 0.0000 | 0.3000 ± 0.1414 | 3, 3 | 1.50 | 0.50 | 0.25 |' in text
    assert '| fan 5 | 0.1000 | 0.2000 |' in text and 'shared with other work' in text


def test_wrong_flags_are_refused(capsys):
    with pytest.raises(SystemExit):
        sampled.main(['--fans', '0'])
    assert '--fans' in capsys.readouterr().err
