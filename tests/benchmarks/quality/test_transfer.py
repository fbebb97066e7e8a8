from benchmarks.quality.transfer import ended_early, report


def entry(test, user_recall, **more):
    return {
        'validation': test,
        'test': test,
        'user_recall': user_recall,
        'seconds': 10.0,
        'processor_seconds': 9.0,
        **more,
    }


def test_the_report_orders_models_and_names_what_the_clock_ended(monkeypatch):
    monkeypatch.setattr('benchmarks.quality.transfer.machine_line', lambda machine: 'A machine.')
    systems = {
        'EASE': {'0': entry(0.2, [0.0, 0.4, 0.2], limit=10.0, commit='abc')},
        'GenRec': {
            '0': entry(0.5, [0.5, 0.6, 0.4], limit=None),
            '1': entry(0.7, [0.8, 0.7, 0.6], limit=20.0),
        },
    }
    text = report({'machine': {}, 'runs': {'data': systems}})
    rows = [line for line in text.splitlines() if line.startswith('| ')][2:]
    assert [row.split('|')[1].strip() for row in rows] == ['GenRec', 'EASE']
    assert '| 2 | 0.6000 | 0.6000 | 0.1414 |' in rows[0]
    assert 'Ended by the clock: EASE after 10 s.' in text and 'Measured at abc.' in text


def test_a_run_without_a_limit_does_not_end_early():
    assert not ended_early({'seconds': 10.0}) and not ended_early({'seconds': 1.0, 'limit': 2.0})
