import json
import math

import pytest

from genrec_pyg.config import flatten, parse_train_arguments, resolve_config
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.tuning import Choice, Range, Tuner, search_space, setting_flags
from genrec_pyg.tuning import study as tuning

SPACE = {
    'trainer.lr': Range(1e-4, 1e-1, log=True),
    'hparams.num_layers': Range(1, 4),
    'hparams.init': Choice(('a', 'b')),
}
DEFAULT = {'trainer.lr': 1e-3, 'hparams.num_layers': 3, 'hparams.init': 'b'}


def test_importance_needs_trials_and_finds_the_setting_that_counts(tmp_path):
    tuner = Tuner(tmp_path / 'study.log', 'study', SPACE, DEFAULT, 30)
    while (trial := tuner.ask()) is not None:
        assert not tuner.importance() or len(tuner.finished) >= tuning.TRIALS_FOR_IMPORTANCE
        tuner.tell(trial, -abs(math.log10(trial.params['trainer.lr']) + 2), {})
    assert next(iter(tuner.importance())) == 'trainer.lr' and sum(
        tuner.importance().values()
    ) == pytest.approx(1)


def test_several_trials_may_be_under_way_and_the_default_is_not_lost(tmp_path):
    tuner = Tuner(tmp_path / 'study.log', 'study', SPACE, DEFAULT, 3)
    first, second, third = tuner.ask(), tuner.ask(), tuner.ask()
    assert first.params == DEFAULT and second.params != third.params and tuner.ask() is None
    tuner.tell(second, 0.5, {})
    # the process of the others is gone
    again = Tuner(tmp_path / 'study.log', 'study', SPACE, DEFAULT, 3)
    assert len(again.finished) == 1 and again.ask().params == DEFAULT


def search(monkeypatch, section):
    monkeypatch.setattr(tuning, 'shipped_file', lambda model: {'search': section})
    return search_space('LightGCN', 'demo')


@pytest.mark.parametrize('dataset', ['demo', 'tiktok', 'lfm2k'])
@pytest.mark.parametrize('model', MODELS)
def test_every_model_has_a_space_around_its_default(model, dataset):
    space, default = search_space(model, dataset)
    assert space.keys() == default.keys() and (
        ('trainer.lr' in space) == get_model(model).trainable
    )
    config = resolve_config(model, dataset)
    for name, entry in space.items():
        assert flatten(config.to_dict())[name] == default[name]
        inside = (
            default[name] in entry.values
            if isinstance(entry, Choice)
            else entry.low <= default[name] <= entry.high
        )
        assert inside, name


def test_a_section_is_laid_over_the_shared_space(monkeypatch):
    shared, default = search(monkeypatch, None)
    assert shared == {
        'trainer.lr': Range(5e-4, 5e-3, log=True),
        'hparams.l2': Range(1e-6, 1e-2, log=True),
        'hparams.num_layers': Range(1, 4),
    }
    assert default == {'trainer.lr': 1e-3, 'hparams.l2': 1e-4, 'hparams.num_layers': 3}
    space, _ = search(
        monkeypatch,
        {
            'trainer': {'lr': {'low': 1, 'high': 2}},
            'hparams': {'l2': None, 'num_layers': [1, 2], 'learn_layer_weights': [True, False]},
        },
    )
    assert space == {
        'trainer.lr': Range(1e-3, 2.0),
        'hparams.num_layers': Choice((1, 2, 3)),
        'hparams.learn_layer_weights': Choice((True, False)),
    }
    assert isinstance(space['trainer.lr'].high, float)  # as the flag is


@pytest.mark.parametrize(
    'section,message',
    [
        (['lr'], r'search: got \[.lr.\], accepted are mappings'),
        ({'lr': [1]}, 'search: got'),
        ({'hparams': {'depth': [1]}}, "unknown key 'hparams.depth', accepted are hidden_channels"),
        ({'model': {'depth': [1]}}, 'search'),
        ({'hparams': {'num_layers': [1.5]}}, 'hparams.num_layers: Expected'),
        ({'hparams': {'num_layers': {'low': 1.5, 'high': 3}}}, 'hparams.num_layers: Expected'),
        ({'hparams': {'num_layers': []}}, r'hparams.num_layers: got \[\], accepted are lists'),
        ({'hparams': {'init': ['xavier', 'xavier']}}, 'accepted are lists of different'),
        ({'hparams': {'init': [['xavier']]}}, 'accepted are lists of different plain values'),
        ({'trainer': {'lr': 0.1}}, 'trainer.lr: got 0.1, accepted are a list'),
        ({'trainer': {'lr': {'low': 1}}}, 'trainer.lr: got'),
        ({'trainer': {'lr': {'low': 1, 'high': 2, 'step': 1}}}, 'trainer.lr: got'),
        ({'trainer': {'lr': {'low': 2, 'high': 1}}}, 'finite numbers low < high'),
        ({'trainer': {'lr': {'low': 0, 'high': 1, 'log': True}}}, 'from above 0 where log'),
        ({'trainer': {'lr': {'low': 0, 'high': float('nan')}}}, 'finite numbers low < high'),
        ({'trainer': {'lr': {'low': 'a', 'high': 'b'}}}, 'finite numbers low < high'),
        (
            {'trainer': {'weight_decay': {'low': 0.1, 'high': 1.0, 'log': True}}},
            'weight_decay: got the default 0.0',
        ),
        ({'trainer': {'grad_clip': {'low': 0.1, 'high': 1.0}}}, 'grad_clip: got the default None'),
    ],
)
def test_bad_sections_are_named(monkeypatch, section, message):
    with pytest.raises(ConfigError, match=message):
        search(monkeypatch, section)


def test_a_default_that_is_no_plain_value_is_named(monkeypatch):
    content = {
        'default': {'hparams': {'debias': {'clusters': {'image': 18}}}},
        'search': {'hparams': {'l2': None, 'debias.clusters': [10, 20]}},
    }
    monkeypatch.setattr(tuning, 'shipped_file', lambda model: content)
    monkeypatch.setattr('genrec_pyg.config.shipped.shipped_file', lambda model: content)
    with pytest.raises(
        ConfigError, match="hparams.debias.clusters: got the default {'image': 18.*plain values"
    ):
        search_space('GenRec', 'tiktok')


def test_settings_become_flags_that_read_back():
    settings = {
        'trainer.lr': 1e-5,
        'hparams.init': 'normal',
        'hparams.learn_layer_weights': True,
        'trainer.grad_clip': None,
    }
    config = parse_train_arguments(['--model', 'LightGCN', *setting_flags(settings)]).config
    assert (config.trainer['lr'], config.trainer['grad_clip']) == (1e-5, None)
    assert (config.hparams['init'], config.hparams['learn_layer_weights']) == ('normal', True)


def test_suggestions_fit_an_objective_of_ones_own():
    optuna = pytest.importorskip('optuna')
    settings = tuning.suggest(optuna.trial.FixedTrial({**DEFAULT, 'hparams.more': 1}), SPACE)
    assert settings == DEFAULT
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [tuning.suggest(study.ask(), SPACE) for _ in range(40)]
    assert {s['hparams.num_layers'] for s in drawn} == {1, 2, 3, 4} and {
        s['hparams.init'] for s in drawn
    } == {'a', 'b'}
    rates = [s['trainer.lr'] for s in drawn]
    assert 1e-4 <= min(rates) < 1e-3 and 1e-2 < max(rates) <= 1e-1  # the logarithm is uniform


@pytest.fixture
def tuner(tmp_path):
    pytest.importorskip('optuna').logging.set_verbosity(30)
    return lambda trials=7, name='a', folder='new', **changes: Tuner(
        tmp_path / folder / 'studies.log',
        name,
        **{'space': SPACE, 'default': DEFAULT, 'trials': trials, **changes},
    )


def value(settings):
    return -abs(settings.get('trainer.lr', 0.0) - 0.01) + settings.get('hparams.num_layers', 0)


def run(tuner, limit=None):
    asked = []
    while limit is None or len(asked) < limit:
        trial = tuner.ask()
        if trial is None:
            break
        asked.append(dict(trial.params))
        if len(tuner.finished) == 1:
            tuner.fail(trial, 'no memory')
        else:
            tuner.tell(trial, value(trial.params), {'seconds': 1.5})
    return asked


def test_the_default_comes_first_and_failures_count(tuner):
    study = tuner()
    asked = run(study)
    assert asked[0] == DEFAULT and len(asked) == len(study.finished) == 7
    assert all(
        1e-4 <= s['trainer.lr'] <= 1e-1 and s['hparams.num_layers'] in range(1, 5) for s in asked
    )
    assert len({s['trainer.lr'] for s in asked}) == 7
    assert [trial.params for trial in study.finished] == asked
    assert study.finished[1].user_attrs['error'] == 'no memory'
    assert study.finished[2].user_attrs['record'] == {'seconds': 1.5}
    assert study.best.params == max((s for i, s in enumerate(asked) if i != 1), key=value)


@pytest.mark.parametrize('done', [0, 1, 3, 5])
def test_interrupted_studies_go_on_as_if_they_had_not_been(tuner, done, tmp_path):
    journal = tmp_path / 'part' / 'studies.log'
    expected = run(tuner(folder='whole'))
    before = run(tuner(folder='part'), done)
    interrupted = dict(tuner(folder='part').ask().params)
    assert interrupted == expected[done]
    # killed while it ran, then while the settings of the next were drawn
    assert tuner(folder='part').ask().params == interrupted
    written = journal.read_text().splitlines(keepends=True)
    journal.write_text(''.join(written[:-2]))
    assert before + run(tuner(folder='part')) == expected
    assert [trial.params for trial in tuner(folder='part').finished] == expected


def test_studies_of_other_names_and_seeds_draw_other_settings(tuner):
    first, named, seeded = run(tuner()), run(tuner(name='b')), run(tuner(folder='seed', seed=1))
    assert first[0] == named[0] == seeded[0] and first[1] != named[1] != seeded[1] != first[1]


def test_an_outcome_that_was_written_is_not_asked_for_again(tuner, monkeypatch):
    study = tuner()
    trial = study.ask()
    monkeypatch.setattr(study.study, 'tell', lambda *args: None)
    study.tell(trial, 0.25, {'epoch': 3})
    again = tuner()
    assert (
        again.best.value == 0.25
        and again.best.user_attrs['record'] == {'epoch': 3}
        and len(again.finished) == 1
    )


def test_without_a_space_there_is_one_trial(tuner):
    study = tuner(space={}, default={})
    assert run(study) == [{}] and study.trials == 1


def test_more_trials_may_be_asked_for_later(tuner):
    assert len(run(tuner(3))) == 3 and len(run(tuner(5))) == 2


def test_another_space_is_refused(tuner):
    run(tuner(2))
    with pytest.raises(
        ConfigError, match="study 'a' has the seed 0, now it is 1; accepted is another file"
    ):
        tuner(seed=1)
    with pytest.raises(ConfigError, match='has the space'):
        tuner(space={**SPACE, 'hparams.num_layers': Range(1, 5)})
    with pytest.raises(ConfigError, match='trials: got 0'):
        tuner(0)


def test_the_storage_is_json_that_others_may_share(tuner, tmp_path):
    run(tuner(name='a'))
    run(tuner(name='b'))
    lines = (tmp_path / 'new' / 'studies.log').read_text().splitlines()
    assert {json.loads(line).get('study_name') for line in lines} == {None, 'a', 'b'}


def test_missing_optuna_is_said(tuner, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(tuning.importlib, 'import_module', absent)
    with pytest.raises(ConfigError, match=r'pip install genrec_pyg\[tuning\]'):
        tuner()
