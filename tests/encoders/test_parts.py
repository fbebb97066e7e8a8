import numpy as np
import pytest

from genrec_pyg.encoders.parts import Progress, clock, compute_parts, remove_parts
from genrec_pyg.exceptions import ConfigError

PARTS = [np.array([3, 1]), np.array([0, 4]), np.array([2])]


class Recorder:
    """Rows that are their place; a kill before part ``dies``."""

    def __init__(self, dies=None):
        self.calls, self.dies = [], dies

    def __call__(self, places):
        if len(self.calls) == self.dies:
            raise KeyboardInterrupt
        self.calls.append(places.tolist())
        return places[:, None] * np.ones((1, 2)), {1: 'bad'} if places[0] == 0 else {}


def run(folder, compute, identity=1):
    return compute_parts(folder, {'of': identity}, PARTS, np.ones(5), compute, 'test')


def test_a_killed_computation_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'parts', Recorder(dies=2))
    again = Recorder()
    x, reasons = run(tmp_path / 'parts', again)
    assert again.calls == [[2]]
    assert x.tolist() == [[n, n] for n in range(5)] and reasons == {4: 'bad'}
    remove_parts(tmp_path / 'parts')
    assert not (tmp_path / 'parts').exists()


def test_parts_of_something_else_are_made_again(tmp_path):
    run(tmp_path / 'parts', Recorder())
    again = Recorder()
    run(tmp_path / 'parts', again, identity=2)
    assert len(again.calls) == 3


def test_a_damaged_part_is_made_again(tmp_path):
    run(tmp_path / 'parts', Recorder())
    file = tmp_path / 'parts' / '000001.npz'
    file.write_bytes(file.read_bytes()[:50])
    again = Recorder()
    run(tmp_path / 'parts', again)
    assert again.calls == [[0, 4]]


def test_two_processes_do_not_share_a_folder(tmp_path):
    def inner(places):
        with pytest.raises(ConfigError, match='process .* is encoding there'):
            run(tmp_path / 'parts', Recorder())
        return np.zeros((len(places), 1)), {}

    run(tmp_path / 'parts', inner)


def test_nothing_is_kept_without_a_folder(tmp_path):
    assert run(None, Recorder())[0].shape == (5, 2)


def test_time_left_follows_the_cost(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    progress = Progress('test', 10, 100.0)
    progress.add(5, 20.0, computed=False)  # of an earlier start
    now[0] += 4
    progress.add(2, 40.0)
    assert progress.rate() == 0.5 and progress.left() == 4
    assert [clock(second) for second in (7.4, 125, 11_220)] == ['7 s', '2 min 5 s', '3 h 7 min']
