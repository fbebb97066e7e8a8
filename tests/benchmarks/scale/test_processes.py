import json

import pytest
import torch

from benchmarks.scale import processes
from genrec_pyg.distributed.cost import Workload


def child_result(number, rank):
    """What a process of a case would have written; more of them are faster and send more."""
    work = vars(Workload(9308, 6710, 59_541, 2048, layers=2))
    return {
        'figures': [[0.2 / number, 0.1 / number + 0.01 * rank], [0.4 / number, 0.2 / number]],
        'draw': 0.1,
        'memory': 10**8 // number,
        'shape': [1, number],
        'bytes': 1000 * (number - 1),
        'formula': 900.0 * (number - 1),
        'messages': 1,
        'loss': {'bpr': 0.5 + 1e-8 * (number - 1)},
        'work': work,
        'load': 1.5,
        'edges': 59_541,
        'recall': 0.05,
    }


@pytest.fixture
def measured(monkeypatch, tmp_path):
    def run(case, number, steps, root, cache, output):
        torch.save(
            {
                't': torch.full((2,), 1.0 + 1e-6 * (number - 1)),
                'a.norm.weight': torch.ones(2),
                'a.linear.bias': torch.full((2,), float(number)),
            },
            output.with_suffix('.pt'),
        )
        torch.save({'t': torch.tensor([1.0, 1e-7 * number])}, output.with_suffix('.gradients.pt'))
        return [child_result(number, rank) for rank in range(number)]

    monkeypatch.setattr(processes, 'run', run)
    return processes.measure('lightgcn-tiktok', 2, 2, '', tmp_path)


def test_medians_differences_and_the_slowest_process(measured):
    one, two, four = (measured['rows'][number] for number in (1, 2, 4))
    assert one['wall'] == pytest.approx(0.3) and two['wall'] == pytest.approx(0.15)
    assert four['processor'] == pytest.approx((0.1 / 4 + 0.03 + 0.05) / 2)
    assert four['loss_difference'] == pytest.approx(3e-8) and one['loss_difference'] == 0
    # without the bias before the normalization
    assert two['parameter_difference'] == pytest.approx(1e-6, rel=0.1)
    assert four['gradient_difference'] == pytest.approx(3e-7) and four['recall'] == 0.05
    assert four['bytes'] == 3000 and four['formula'] == 2700 and four['memory'] == 25_000_000


def test_the_fitted_model_meets_one_process_and_goes_beyond(measured):
    cost = processes.predictions(measured)
    assert cost['measured'][1]['computed'] == pytest.approx(measured['rows'][1]['processor'])
    assert set(cost['beyond']) == {
        f'{number} processes, {speed} Gb/s' for number in (8, 64, 512) for speed in (10, 100)
    }
    assert all(
        entry['shape'][0] * entry['shape'][1] in (8, 64, 512) for entry in cost['beyond'].values()
    )


def test_what_no_machine_holds_takes_the_factor_of_the_largest_case(measured):
    cost = processes.predictions(measured)
    cases = {'lightgcn-tiktok': {**measured, 'cost': cost}}
    found = processes.largest(cases)
    assert set(found) == {'LightGCN'} and found['LightGCN']['factor'] == cost['factor']
    rows = found['LightGCN']['rows']
    assert rows['8 processes, 10 Gb/s']['memory'] > rows['64 processes, 10 Gb/s']['memory']
    assert all(row['seconds'] > row['exchange'] > 0 for row in rows.values())
    document = {'machine': processes.machine(1), 'rounds': 2, 'steps': 2, 'cases': cases}
    text = processes.markdown({**document, 'largest': found})
    assert '1e+09 interactions' in text and 'the factor of lightgcn-tiktok' in text


def test_the_report_names_conditions_and_all_rows(measured):
    document = {
        'machine': processes.machine(1),
        'rounds': 2,
        'steps': 2,
        'cases': {'lightgcn-tiktok': {**measured, 'cost': processes.predictions(measured)}},
    }
    text = processes.markdown(
        json.loads(json.dumps({**document, 'cases': {}})) | {'cases': document['cases']}
    )
    assert (
        '| 4 (1x4) |' in text
        and 'load average of 1.5 to 1.5' in text
        and '512 processes, 10 Gb/s' in text
    )
    assert '2.00' in text and '59541 interactions, 2048 triples per step' in text


def test_wrong_flags_are_refused(capsys):
    with pytest.raises(SystemExit):
        processes.main(['--cases', 'genrec-of-everything'])
    assert 'invalid choice' in capsys.readouterr().err
