import argparse
import json
import mmap
import os
import time

import pytest

from benchmarks.common import flags, machine, reports, timing


def test_phase_clock_adds_repeated_phases():
    clock = timing.PhaseClock()
    for phase in ('a', 'b', 'a'):
        clock.start(phase)
        time.sleep(0.02)
    clock.stop()
    clock.stop()
    assert list(clock.wall) == ['a', 'b']
    assert clock.wall['a'] >= 0.04 and 0.02 <= clock.wall['b'] < clock.wall['a']
    assert clock.processor['a'] < clock.wall['a']  # asleep
    clock.add('b', 1.0, 2.0)
    assert clock.wall['b'] > 1.0 and clock.processor['b'] >= 2.0


def test_interleaved_seconds_take_turns():
    calls = []
    candidates = {'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}
    seconds = timing.interleaved_seconds(candidates, repeats=4, warmup=1)
    assert {name: len(values) for name, values in seconds.items()} == {'a': 4, 'b': 4}
    assert all(set(calls[i : i + 2]) == {'a', 'b'} for i in range(0, 10, 2))
    assert calls[2:4] == ['a', 'b'] and calls[4:6] == ['b', 'a']  # whoever is first changes


def test_summary():
    assert timing.summary([3.0, 1.0, 2.0, 10.0]) == {
        'median': 2.5,
        'min': 1.0,
        'max': 10.0,
        'count': 4,
    }


def test_memory_grows_and_keeps_its_peak():
    before = machine.memory_bytes()
    block = mmap.mmap(-1, 60_000_000)  # not from the C library, which may keep what is freed
    block.write(b'x' * 60_000_000)
    during = machine.memory_bytes()
    block.close()
    after = machine.memory_bytes()
    assert during['now'] - before['now'] > 50_000_000
    # The kernel keeps approximate counters, hence the slack.
    assert after['peak'] >= during['now'] - 1_000_000 and after['now'] < during['now'] - 50_000_000


def test_machine_names_no_path_or_host():
    description = machine.machine(3)
    text = json.dumps(description) + machine.machine_line(description)
    assert description['threads'] == 3 and 'torch' in description['versions']
    assert os.uname().nodename not in text and os.getcwd() not in text


def test_machine_names_settings_of_memory(monkeypatch):
    for name in machine.ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert 'Environment' not in machine.machine_line(machine.machine(1))
    monkeypatch.setenv('THP_MEM_ALLOC_ENABLE', '1')
    assert machine.machine_line(machine.machine(1)).endswith(
        ' Environment: THP_MEM_ALLOC_ENABLE=1.'
    )


def test_thread_environment():
    environment = machine.thread_environment(2)
    assert environment['OMP_NUM_THREADS'] == environment['OPENBLAS_NUM_THREADS'] == '2'
    assert environment['PATH'] == os.environ['PATH']


def test_write_report(tmp_path):
    stem = tmp_path / 'new' / 'v1.5'
    reports.write_report(stem, {'x': 1}, '# Title\n\n')
    assert json.loads((tmp_path / 'new' / 'v1.5.json').read_text()) == {'x': 1}
    assert (tmp_path / 'new' / 'v1.5.md').read_text() == '# Title\n'
    assert len(list(stem.parent.iterdir())) == 2


def test_folder_digest_sees_names_and_content(tmp_path):
    digests = set()
    (tmp_path / 'a.py').write_text('1')
    digests.add(machine.folder_digest(tmp_path, '*.py'))
    (tmp_path / 'note.txt').write_text('ignored')
    assert machine.folder_digest(tmp_path, '*.py') in digests
    (tmp_path / 'a.py').write_text('2')
    digests.add(machine.folder_digest(tmp_path, '*.py'))
    (tmp_path / 'a.py').rename(tmp_path / 'b.py')
    digests.add(machine.folder_digest(tmp_path, '*.py'))
    assert len(digests) == 3


def test_markdown_table():
    assert reports.markdown_table(['a', 'b'], [['x', 1]]) == '| a | b |\n| :-- | --: |\n| x | 1 |'


def test_condense_relates_to_the_first():
    found = timing.condense({'ours': [2.0, 2.0, 5.0], 'other': [3.0, 3.0, 1.0]})
    assert found['ours']['times_ours'] == 1.0 and found['other']['times_ours'] == 1.5


def test_positive_takes_integers_from_1():
    assert flags.positive('1') == 1 and flags.positive('20') == 20
    for text in ('0', '-3', '1.5', 'many'):
        with pytest.raises(
            argparse.ArgumentTypeError, match=f'^got {text}, accepted are integers from 1$'
        ):
            flags.positive(text)
