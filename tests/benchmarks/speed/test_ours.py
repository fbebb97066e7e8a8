import pytest

from benchmarks.common.timing import PhaseClock
from benchmarks.common.worker import PHASES, Worker
from benchmarks.speed.ours import SYSTEMS, OwnSystem
from genrec_pyg.config import parse_train_arguments

DEMO = ['--dataset', 'demo', '--modalities', 'image']


def test_every_system_is_a_valid_configuration():
    for settings in SYSTEMS.values():
        flags = [f'--{key}={value}' for key, value in settings.items()]
        config = parse_train_arguments([*DEMO, *flags]).config
        for key, value in settings.items():
            found = config.to_dict()
            for name in key.split('.'):
                found = found[name]
            assert str(found) == value


@pytest.mark.parametrize('denoiser', ['linear', 'tied'])
def test_phases_cover_the_epoch(denoiser):
    system = OwnSystem([*DEMO, f'--hparams.denoiser.name={denoiser}'])
    clock = PhaseClock()
    figures = system.run_epoch(0, clock)
    assert set(clock.wall) == set(PHASES) and all(seconds > 0 for seconds in clock.wall.values())
    assert 0 < figures['recall@20'] <= 1
    assert system.describe()['denoiser'] == denoiser


def test_a_model_without_generation_has_empty_phases():
    system = OwnSystem([*DEMO, '--hparams.generation.enabled=false'])
    clock = PhaseClock()
    system.run_epoch(0, clock)
    assert clock.wall['denoiser'] == clock.wall['rebuild'] == 0 < clock.wall['recommender']


def test_same_result_as_the_training_loop(tmp_path):
    from genrec_pyg.config.build import make_data, make_model
    from genrec_pyg.train import make_trainer
    from genrec_pyg.training import seed_everything

    system = OwnSystem(DEMO)
    seed_everything(system.config.seed)
    measured = system.run_epoch(0, PhaseClock())
    system.config.epochs = 1
    data = make_data(system.config)
    seed_everything(system.config.seed)
    model = make_model(system.config, data)
    assert make_trainer(system.config).fit(model, data).test['ndcg@20'] == measured['ndcg@20']


def test_worker():
    worker = Worker('benchmarks.speed.ours', ['1', *DEMO], 1)
    try:
        assert worker.ready['description']['precision'] == 'float32'
        assert worker.epoch()['memory']['peak'] > worker.ready['memory_import']
    finally:
        worker.close()
