import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion import (
    Denoiser,
    DenoiserConfig,
    DenoiserTrainingConfig,
    DiffusionConfig,
    FlipProcess,
    GaussianProcess,
    GenerationConfig,
    InterestGenerator,
    ItemViews,
    LinearDenoiser,
    PerceptronDenoiser,
    SparseRows,
    TiedDenoiser,
    TransformerDenoiser,
    modality_contrast,
)
from genrec_pyg.nn.diffusion.states import dense_rows
from genrec_pyg.nn.models.multimodal.genrec_released import ReleasedGenerator
from genrec_pyg.optim import MirrorGradient

MATRIX = torch.tensor(
    [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
)


class Fixed(Denoiser):
    """Answers with the logits it was given, whatever the state."""

    trainable = False

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def query(self, state, t, views):
        return self.logits

    def keys(self, views):
        return torch.eye(self.logits.size(1))


class Products(TorchDispatchMode):
    """Notes the precisions of dense products."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.dtypes.add(out.dtype)
        return out


@pytest.fixture
def graph():
    return TrainingGraph(4, 6, MATRIX.nonzero().t().contiguous())


@pytest.fixture
def views():
    return ItemViews(torch.randn(6, 8), 2, torch.rand(6))


def perfect_logits():
    return torch.where(MATRIX == 1, 200.0, -200.0)


def make_generator(
    graph, denoiser, process, objective='multinomial', cls=InterestGenerator, **options
):
    """A generator with settings of any group by their names."""
    found = {
        config: {
            field.name: options.pop(field.name)
            for field in dataclasses.fields(config)
            if field.name in options
        }
        for config in (DenoiserTrainingConfig, GenerationConfig)
    }
    training = DenoiserTrainingConfig(objective, **found[DenoiserTrainingConfig])
    generation = GenerationConfig(
        **{'rebuild_k': 1, 'edge_dropout': 0.5, **found[GenerationConfig]}
    )
    return cls(graph, denoiser, process, training, generation, **options)


def generator_of(graph, logits, **arguments):
    options = dict(
        objective='bce',
        topk=2,
        rebuild_k=2,
        edge_dropout=0.0,
        edge_weight='binary',
        contrast_weight=0.0,
    )
    return make_generator(
        graph,
        Fixed(logits),
        FlipProcess(scale=arguments.pop('scale', 1.0)),
        **{**options, **arguments},
    )


@pytest.mark.parametrize('final', ['mode', 'sample'])
def test_perfect_noiseless_denoiser_rebuilds_training_edges_only(graph, views, final):
    generator = generator_of(
        graph, perfect_logits(), candidates='all', start='diffused', scale=0.0, final=final
    )
    figures = generator.generate(views)
    user, item = generator.edges.edge_index
    assert bool((MATRIX[user, item] == 1).all())
    assert figures['share_new_edges'] == 0.0
    assert torch.bincount(user, minlength=4).tolist() == [2, 2, 0, 2]


def test_new_candidates_are_the_most_probable_unobserved_items(graph, views):
    logits = torch.arange(6).float().expand(4, 6).contiguous()
    generator = generator_of(graph, logits, candidates='new', start='observed')
    assert generator.generate(views)['share_new_edges'] == 1.0
    edges = generator.edges.edge_index.t().tolist()
    assert edges == [[0, 5], [0, 4], [1, 5], [1, 3], [2, 5], [2, 4]]  # user 3 has everything


def test_debias_undoes_changes(graph, views):
    class RejectItemFive:
        def filter(self, user, item, added):
            assert bool(added.all())
            return item != 5

    logits = torch.arange(6).float().expand(4, 6).contiguous()
    generator = generator_of(graph, logits, start='observed', debias=RejectItemFive(), topk=3)
    generator.generate(views)
    assert 5 not in generator.edges.edge_index[1].tolist()
    assert generator.edges.edge_index.t().tolist() == [
        [0, 4],
        [0, 3],
        [1, 3],
        [1, 2],
        [2, 4],
        [2, 3],
    ]


def test_probability_weights_are_relative_to_the_best_edge(graph, views):
    logits = torch.logit(torch.tensor([[0.1, 0.8, 0.1, 0.4, 0.1, 0.1]]).expand(4, 6)).contiguous()
    generator = generator_of(graph, logits, start='observed', edge_weight='probability')
    generator.generate(views)
    (row, col), value = generator.adjacency().to_edge_index()
    weight = torch.zeros(10, 10)
    weight[row, col] = value
    assert torch.allclose(weight, weight.t())
    # user 0: items 1 (weight 1) and 3 (weight 1/2), loop 1: degree 2.5
    assert float(weight[0, 4 + 1] / weight[0, 4 + 3]) > 1
    assert float(weight[0, 0]) == pytest.approx(1 / 2.5)


def test_edge_dropout_keeps_loops_and_pairs_and_is_off_in_evaluation(graph, views):
    torch.manual_seed(0)
    generator = generator_of(graph, torch.zeros(4, 6), start='observed', edge_dropout=0.5)
    generator.generate(views)
    full = generator.eval().adjacency().to_edge_index()
    dropped = generator.train().adjacency().to_edge_index()
    dense = [torch.zeros(10, 10).index_put((i[0], i[1]), v) for i, v in (full, dropped)]
    assert torch.equal(dense[1], dense[1].t())
    assert torch.equal(dense[0].diagonal(), dense[1].diagonal())
    off = ~torch.eye(10, dtype=torch.bool) & (dense[1] != 0)
    assert torch.allclose(dense[1][off], dense[0][off] / 0.5)
    assert 0 < int(off.sum()) < int((dense[0] != 0).sum()) - 10


def test_entry_dropout_is_independent_and_stays_on_in_evaluation(graph, views):
    torch.manual_seed(0)
    generator = generator_of(
        graph, torch.zeros(4, 6), start='observed', edge_dropout=0.5, cls=ReleasedGenerator
    )
    generator.generate(views)
    index, value = generator.eval().adjacency().to_edge_index()
    dropped = torch.zeros(10, 10).index_put((index[0], index[1]), value)
    # one draw per epoch, for training and evaluation
    index, value = generator.train().adjacency().to_edge_index()
    assert torch.equal(dropped, torch.zeros(10, 10).index_put((index[0], index[1]), value))
    generator.generated.edge_dropout = 0.0
    generator.generated._adjacencies.clear()
    index, value = generator.train().adjacency().to_edge_index()
    full = torch.zeros(10, 10).index_put((index[0], index[1]), value)
    alive = dropped != 0
    assert torch.allclose(dropped[alive], full[alive] / 0.5)
    assert not torch.equal(alive, alive.t()) and 0 < int(alive.diagonal().sum()) < 10
    assert int(alive.sum()) < index.size(1)


def test_sampled_normalizer_trains_and_a_sample_of_all_items_is_exact(graph, views):
    torch.manual_seed(0)
    denoiser = TiedDenoiser(2, 4, dropout=0.0)
    generator = make_generator(
        graph, denoiser, FlipProcess(scale=0.0), contrast_weight=0.5, num_negatives=6
    )
    rows = generator.rows(torch.arange(4))
    step = torch.zeros(4, dtype=torch.long)  # the step embedding enters the queries
    exact = make_generator(
        graph, denoiser, FlipProcess(num_steps=1, scale=0.0), contrast_weight=0.5
    ).loss(rows, views)
    sampled = generator.denoiser_training.sampled_loss(
        denoiser.query(rows, step, views), denoiser.keys(views), rows, views
    )
    for name, term in exact.items():
        assert float(sampled[name].detach()) == pytest.approx(float(term.detach()), rel=1e-5)
    assert set(sampled) == set(exact)
    generator = make_generator(
        graph, denoiser, FlipProcess(), num_negatives=4, lr=1e-2, batch_size=2
    )
    first = generator.fit(views)['denoiser_multinomial']
    for _ in range(30):
        last = generator.fit(views)['denoiser_multinomial']
    assert last < first
    generator.generate(views)
    assert generator.edges is not None


@pytest.mark.parametrize(
    'name,objective', [('transformer', 'multinomial'), ('tied', 'focal'), ('transformer', 'bce')]
)
def test_training_lowers_the_objective(graph, name, objective):
    torch.manual_seed(0)
    views = ItemViews(torch.randn(6, 8), 2, torch.rand(6))
    denoiser = (
        TransformerDenoiser(
            6, channels=16, num_layers=1, num_heads=2, output_channels=8, dropout=0.0
        )
        if name == 'transformer'
        else TiedDenoiser(2, 4, dropout=0.0)
    )
    generator = make_generator(
        graph,
        denoiser,
        FlipProcess(scale=0.1),
        objective,
        variational_weight=1e-3,
        lr=1e-2,
        batch_size=4,
    )
    history = [generator.fit(views) for _ in range(30)]
    assert history[-1][f'denoiser_{objective}'] < 0.8 * history[0][f'denoiser_{objective}']
    assert {'denoiser_variational', 'denoiser_contrast', 'seconds_denoiser'} <= set(history[0])


def test_contrastive_term_reaches_the_denoiser_and_equals_the_plain_formula(views):
    rows = SparseRows.from_dense(MATRIX)
    logits = torch.randn(4, 6, requires_grad=True)
    probability = logits.sigmoid()
    loss = modality_contrast(probability @ views.embedding, rows, views, temperature=0.2)
    filled = [0, 1, 3]
    expected = 0.0
    for m in range(2):
        v = views.embedding[:, 4 * m : 4 * m + 4]
        x, y = F.normalize(MATRIX[filled].float() @ v), F.normalize(probability[filled] @ v)
        expected = expected + F.cross_entropy(x @ y.t() / 0.2, torch.arange(3))
    assert torch.allclose(loss, expected, atol=1e-5)
    assert float(torch.autograd.grad(loss, logits)[0].abs().sum()) > 0


class Recorder(Fixed):
    """Remembers what it was shown, and in which mode."""

    def __init__(self, logits):
        super().__init__(logits)
        self.seen, self.modes = [], set()

    def query(self, state, t, views):
        self.seen.append((state, t.tolist()))
        self.modes.add(self.training)
        return super().query(state, t, views)


@pytest.mark.parametrize('cls', [InterestGenerator, ReleasedGenerator])
def test_only_the_released_generator_generates_with_dropout(graph, views, cls):
    generator = make_generator(
        graph, Recorder(torch.zeros(4, 6)), FlipProcess(), cls=cls, contrast_weight=0.0
    )
    generator.train().generate(views)
    assert generator.denoiser.modes == {cls is ReleasedGenerator}


def test_chain_from_clean_rows_runs_all_steps_without_noise_at_the_start(graph, views):
    rows = SparseRows.from_dense(MATRIX)
    logits = torch.randn(4, 6)
    process = GaussianProcess(num_steps=3, scale=100.0, sample_noise=False)
    generator = make_generator(graph, Recorder(logits), process, 'squared', start='clean')
    assert torch.equal(generator.sample(rows, views), logits)
    states, steps = zip(*generator.denoiser.seen)
    assert [step[0] for step in steps] == [2, 1, 0] and torch.equal(states[0].dense(), rows.dense())
    expected = rows.dense()
    for t, state in ((2, states[1]), (1, states[2])):
        clean, noisy, _ = process.posterior(t, process.rates(rows))
        expected = clean * logits + noisy * expected  # the estimate is not cut to [0, 1]
        assert torch.allclose(dense_rows(state), expected, atol=1e-6)


@pytest.mark.parametrize('start', ['clean', 'diffused'])
@pytest.mark.parametrize(
    'denoiser',
    [
        PerceptronDenoiser(6, channels=5),
        PerceptronDenoiser(6, channels=5, normalize=True),
        TiedDenoiser(2, 4),
        TransformerDenoiser(6, channels=8, num_layers=1, num_heads=2),
    ],
)
def test_factored_chain_equals_the_dense_one(graph, views, denoiser, start):
    rows = SparseRows.from_dense(MATRIX)
    process = GaussianProcess(num_steps=4, scale=100.0, sample_noise=False)
    generator = make_generator(graph, denoiser.eval(), process, 'squared', start=start)
    torch.manual_seed(3)
    found = generator.sample(rows, views)
    process.linear = False
    torch.manual_seed(3)
    assert torch.allclose(found, generator.sample(rows, views), atol=1e-5)


def test_squared_objective_weighs_the_steps_and_adds_the_signal(graph, views):
    rows = SparseRows.from_dense(MATRIX)
    logits = torch.randn(4, 6)
    process = GaussianProcess(num_steps=3)
    recorder = Recorder(logits)
    generator = make_generator(
        graph, recorder, process, 'squared', contrast_weight=0.0, signal_weight=0.5
    )
    seen = views._replace(features=torch.randn(6, 3), items=torch.randn(6, 3))
    terms = generator.loss(rows, seen)
    [(noisy, steps)] = recorder.seen
    assert set(terms) == {'denoiser_squared', 'denoiser_signal'} and noisy.shape == (4, 6)
    weight = process.step_weight(rows, process.rates(rows))[steps].float()
    assert float(terms['denoiser_squared']) == pytest.approx(
        float((weight * (MATRIX - logits).square().mean(dim=1)).mean()), rel=1e-5
    )
    assert float(terms['denoiser_signal']) == pytest.approx(
        0.5 * float((logits @ seen.features - MATRIX.float() @ seen.items).square().mean()),
        rel=1e-5,
    )


@pytest.mark.parametrize('process', [FlipProcess(scale=0.5), GaussianProcess(weighting='equal')])
@pytest.mark.parametrize('objective', ['multinomial', 'focal', 'bce', 'squared'])
def test_every_process_trains_with_every_objective(graph, process, objective):
    torch.manual_seed(0)
    views = ItemViews(torch.randn(6, 8), 2, torch.rand(6))
    generator = make_generator(
        graph,
        PerceptronDenoiser(6, channels=16, dropout=0.0),
        process,
        objective,
        variational_weight=1e-4,
        lr=1e-2,
        batch_size=4,
    )
    history = [generator.fit(views)[f'denoiser_{objective}'] for _ in range(30)]
    assert history[-1] < 0.8 * history[0]
    assert generator.generate(views)['generated_edges'] > 0


def test_state_round_trip(graph, views):
    torch.manual_seed(0)
    make = lambda: make_generator(graph, TiedDenoiser(2, 4), FlipProcess(), batch_size=4)  # noqa: E731
    first = make()
    first.fit(views)
    first.generate(views)
    second = make()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.edges.edge_index, second.edges.edge_index)
    for generator in (first, second):
        torch.manual_seed(5)
        generator.fit(views)
    for a, b in zip(first.denoiser.parameters(), second.denoiser.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    'config, arguments',
    [
        (DenoiserTrainingConfig, dict(objective='mse')),
        (DenoiserTrainingConfig, dict(focal_alpha=1.0)),
        (DenoiserTrainingConfig, dict(num_negatives=3, objective='bce')),
        (GenerationConfig, dict(candidates='none')),
        (GenerationConfig, dict(final='top')),
        (GenerationConfig, dict(edge_dropout=1.0)),
        (GenerationConfig, dict(rebuild_k=6)),
        (GenerationConfig, dict(edge_weight='log')),
        (DiffusionConfig, dict(start='noise')),
        (DenoiserConfig, dict(name='unet')),
    ],
)
def test_bad_options_are_named(config, arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        config(**arguments)


def test_negatives_are_refused_for_an_objective_that_does_not_normalize(graph):
    with pytest.raises(ConfigError, match="num_negatives: got 3 with the objective 'squared'"):
        make_generator(graph, LinearDenoiser(graph, FlipProcess()), FlipProcess(), num_negatives=3)


def test_what_is_ranked_is_computed_in_full_precision(graph, views):
    logits = 1 + 1e-4 * torch.arange(24.0).view(4, 6).flip(1)  # all 1 in bfloat16
    generator = generator_of(graph, logits, start='diffused')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = generator.sample(generator.rows(torch.arange(4)), views)
    assert torch.equal(found, logits)


@pytest.mark.parametrize('mirror', [False, True])
@pytest.mark.parametrize('num_negatives', [0, 3])
@pytest.mark.parametrize('process', [FlipProcess(3), GaussianProcess(3)])
@pytest.mark.parametrize(
    'make',
    [
        lambda: PerceptronDenoiser(6, 8, dropout=0.0),
        lambda: TiedDenoiser(2, 4, 1, dropout=0.0),
        lambda: TransformerDenoiser(6, 8, 1, 2, 4, dropout=0.0),
    ],
)
def test_autocast_trains_and_generates_in_half_precision(
    graph, views, make, process, num_negatives, mirror
):
    outcomes = []
    for enabled in (False, True):
        torch.manual_seed(1)
        generator = make_generator(
            graph,
            make(),
            process,
            topk=3,
            rebuild_k=2,
            start='diffused',
            num_negatives=num_negatives,
            lr=1e-2,
            batch_size=2,
        )
        if mirror:  # looks at a batch several times, with other weights each time
            generator.wrap_optimizer(lambda optimizer: MirrorGradient(optimizer, 1.0, 0.9, 1))
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled), Products() as products:
            for _ in range(4):  # several steps each, which must all be seen
                figures = {**generator.fit(views), **generator.generate(views)}
        assert (torch.bfloat16 in products.dtypes) == enabled
        assert all(
            p.dtype == torch.float32 and bool(p.isfinite().all())
            for p in generator.denoiser.parameters()
        )
        assert generator.edges.probability.dtype == torch.float32 and figures['generated_edges'] > 0
        outcomes.append(figures)
    for name in ('denoiser_multinomial', 'denoiser_contrast'):
        assert outcomes[1][name] == pytest.approx(outcomes[0][name], rel=0.05, abs=0.002)
