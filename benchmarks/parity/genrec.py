r"""GenRec with ``variant='released'`` against its released code: graphs, flips, denoiser, reverse
chain, generated graph, encoder and losses.

That code has a switch of datasets, each with another encoder, which ours becomes by the options of
``configs/GenRec.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from benchmarks.parity.coach import dense, import_main, make_handler, reported_losses, set_flags
from benchmarks.parity.comparison import (
    Agreement,
    fixed_dropout,
    foreign_code,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.nn.models import GenRec
from genrec_pyg.ops import released_flip_probability

REPOSITORY = 'orangeheyue/GenRec-V1 (MIT)'

CHANNELS, LAYERS = 8, 2
#: Weights of the terms, more than the published ones, so that none is lost beside another.
WEIGHTS = {'l2': 0.01, 'contrast': {'view_weight': 0.3, 'pair_weight': 0.2}}


class Setting(NamedTuple):
    r"""One of their datasets, its modalities, and the options that give ours the same encoder."""

    data: str
    modalities: Sequence[str]
    options: dict[str, object]
    note: str = ''


SETTINGS = (
    Setting('tiktok', ('image', 'text', 'audio'), {}),
    Setting(
        'baby',
        ('image', 'text'),
        {'merge': 'sum', 'side_in_score': False},
        'theirs shifts all features by one number, here a tenth of the published one, which batch '
        'normalization undoes up to rounding',
    ),
    Setting('sports', ('image', 'text'), {'side_in_score': False}),
)


def compare_genrec(checkout: Path) -> list[Agreement]:
    r"""All quantities of the encoder in all settings; what they have in common in the first."""
    with foreign_code(checkout):
        main = import_main(checkout)
        found: list[Agreement] = []
        for setting in SETTINGS:
            torch.manual_seed(0)
            data = toy_graph(setting.modalities)
            for name in setting.modalities:
                # cosines become positive; of the others theirs makes edges and ours none
                data[name].x += 1
            ours = GenRec(
                data,
                setting.modalities,
                'released',
                CHANNELS,
                denoiser={'num_layers': LAYERS},
                generation={'rebuild_k': 1},
                encoder=setting.options,
                **WEIGHTS,
            )
            coach = _make_coach(main, setting, ours)
            _copy_weights(coach, ours)
            if setting is SETTINGS[0]:
                with _fixed_attention(), fixed_dropout():
                    for compare in (
                        _compare_graphs,
                        _compare_flips,
                        _compare_denoiser,
                        _compare_loss,
                        _compare_chain,
                    ):
                        found += compare(main, coach, ours)
            found += [
                agreement._replace(
                    quantity=f'{setting.data}: {agreement.quantity}',
                    note='; '.join(filter(None, (agreement.note, setting.note))),
                )
                for agreement in _compare_encoder(main, coach, ours)
            ]
        return found


def _fixed_attention() -> Any:
    r"""Beside :func:`fixed_dropout`: attention to one token, whose share is 1, keeps and scales up
    the token.
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        return value / (1 - dropout_p)

    return patch.object(F, 'scaled_dot_product_attention', attention)


def _compare_graphs(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    yield Agreement(
        'interaction graph', coach.handler.torchBiAdj.to_dense(), dense(ours.encoder.adjacency)
    )
    yield Agreement(
        'its block of users and items', coach.handler.R.to_dense(), dense(ours.encoder.block)
    )
    for name, graph in ours.encoder.item_graphs.items():
        yield Agreement(
            f'{name}: item graph',
            getattr(coach, f'{name}_II_matrix').to_dense(),
            dense(graph),
            'similarities are positive; theirs makes edges of negative ones, ours does not',
        )


def _compare_flips(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    diffusion, process = coach.diffusion_model, ours.generator.process
    rows = ours.generator.rows(torch.arange(ours.num_users))
    clean, rates = rows.dense(), process.rates(rows)
    for name, theirs, own in zip(
        ('0 to 1', '1 to 0'), diffusion.get_cum(clean), (rates.gamma_bar, rates.epsilon_bar)
    ):
        yield Agreement(f'probability of no flip, {name}', 1 - theirs, 1 - own)
    # Theirs draws a uniform number, then a flip with a probability that depends on it; ours draws
    # once with the mean of that.
    t, grid = torch.arange(rows.num_rows) % process.num_steps, (torch.arange(1000) + 0.5) / 1000
    drawn: list[Tensor] = []
    for noise in grid.tolist():
        with (
            patch.object(
                diffusion,
                'generate_custom_noise',
                lambda x, *_, noise=noise, **__: torch.full_like(x, noise),
            ),
            patch('torch.bernoulli', lambda x: (drawn.append(x.double()), torch.zeros_like(x))[1]),
        ):
            diffusion.q_sample(clean, t)
    up, down = (
        released_flip_probability(rate, process.flip_temp)[t]
        for rate in (rates.gamma_bar, rates.epsilon_bar)
    )
    yield Agreement(
        'flip probabilities',
        sum(drawn) / len(drawn),
        torch.where(clean > 0, down.unsqueeze(1), up.unsqueeze(1)),
        'theirs averaged over a thousand values of its inner uniform number, which ours has '
        'integrated out',
    )


def _compare_denoiser(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    rows = ours.generator.rows(torch.arange(ours.num_users))
    noisy = _noisy_rows(rows.dense())
    t = torch.arange(rows.num_rows) % ours.generator.process.num_steps
    with torch.no_grad():
        yield Agreement(
            'denoiser',
            coach.denoise_model_image(noisy, t),
            ours.generator.denoiser(noisy, t, ours.item_views()),
            'dropout drops the same entries',
        )


def _compare_loss(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    generator, theirs = ours.generator, coach.denoise_model_image
    noisy = _noisy_rows(generator.rows(torch.arange(ours.num_users)).dense())
    with (
        patch.multiple(main.args, ssl_gen1=0.0, ssl_gen2=0.0, ssl_gen3=0.0),
        patch.object(
            coach.diffusion_model, '_calc_kl_divergence', lambda x, *_: torch.zeros(len(x))
        ),
    ):
        focal = _training_loss(coach, noisy)
    torch.manual_seed(1)
    with patch.object(generator.process, 'diffuse', lambda *_: noisy):
        own = generator.loss(generator.rows(torch.arange(ours.num_users)), ours.item_views())[
            'denoiser_focal'
        ]
    yield Agreement(
        'focal loss',
        focal.detach(),
        own.detach(),
        'same steps, flips and dropout, its other terms left out',
    )
    _training_loss(coach, noisy).backward()
    own.backward()
    note = (
        'same steps, flips and dropout, all its terms; the variational and the contrastive ones '
        'have no gradient'
    )
    yield Agreement(
        'gradient of the loss of the denoiser, first layer',
        theirs.input_proj.weight.grad[:, : ours.num_items].t(),
        generator.denoiser.item_weight.grad,
        note,
    )
    yield Agreement(
        'gradient of the loss of the denoiser, last layer',
        theirs.output_proj[3].weight.grad,
        generator.denoiser.output.weight.grad,
        note,
    )


def _training_loss(coach: Any, noisy: Tensor) -> Tensor:
    r"""Their loss of the denoiser with ``noisy`` in place of drawn rows; steps are drawn first,
    after a fixed seed.
    """
    clean = coach.handler.diffusionLoader.batch[0]
    diffusion = coach.diffusion_model
    model = coach.model
    draw: Callable = diffusion.q_sample
    features = [
        get().detach() for get in (model.getImageFeats, model.getTextFeats, model.getAudioFeats)
    ]
    torch.manual_seed(1)
    # it sets rates besides
    with patch.object(diffusion, 'q_sample', lambda x, t, *_: (draw(x, t), noisy)[1]):
        return diffusion.training_losses(
            coach.denoise_model_image, clean, model.getItemEmbeds().detach(), None, *features
        )


def _noisy_rows(clean: Tensor) -> Tensor:
    torch.manual_seed(2)
    return torch.bernoulli(torch.full_like(clean, 0.4))


def _compare_chain(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    generator, diffusion = ours.generator, coach.diffusion_model
    rows, views = generator.rows(torch.arange(ours.num_users)), ours.item_views()
    clean = rows.dense()
    # The first draw is above one half for what stays, so no entry flips in either; the others are
    # uniform.
    uniform = torch.cat(
        [torch.full_like(clean, 0.5).unsqueeze(0), torch.rand(diffusion.steps, *clean.shape)]
    )

    def draws() -> Any:
        remaining = iter(uniform)
        return patch('torch.bernoulli', lambda x, **_: (next(remaining) < x).to(x.dtype))

    with (
        draws(),
        patch.object(diffusion, 'generate_custom_noise', lambda x, *_, **__: torch.ones_like(x)),
        torch.no_grad(),
    ):
        _, probability = diffusion.p_sample(coach.denoise_model_image, clean, diffusion.steps)
    with draws():
        own = generator.sample(rows, views).sigmoid()
    yield Agreement(
        'reverse chain, last probabilities',
        probability,
        own,
        'same draws, dropout drops the same entries',
    )


def _compare_encoder(main: ModuleType, coach: Any, ours: GenRec) -> Iterator[Agreement]:
    generator = ours.generator
    probability = torch.rand(ours.num_users, ours.num_items)
    stand_in = SimpleNamespace(
        p_sample=lambda *_: ((probability > 0.5).float(), probability),
        training_losses=lambda *_: torch.zeros((), requires_grad=True),
    )
    with patch.object(coach, 'diffusion_model', stand_in), fixed_dropout():
        reported = coach.trainEpoch(0)
    with (
        patch.object(generator, 'sample', lambda *_: probability.logit()),
        patch('torch.rand_like', lambda x: torch.full_like(x, 0.5)),
    ):
        generator.generate(ours.item_views())
    yield Agreement(
        'generated graph',
        coach.image_UI_matrix.to_dense(),
        dense(generator.adjacency()),
        'same probabilities and last draw',
    )
    graphs = [getattr(coach, f'{name}_II_matrix') for name in ours.encoder.encoders]
    note, sizes = 'dropout drops the same entries', [ours.num_users, ours.num_items]
    with torch.no_grad(), fixed_dropout():
        users, items, side, content = coach.model(
            coach.handler.R, coach.handler.torchBiAdj, coach.image_UI_matrix, *graphs
        )
        views = ours.views()
        yield Agreement('collaborative view', content, views.content, note)
        yield Agreement('modality view', side, views.side, note)
        yield from pair_agreements((users, items), views.embedding.split(sizes), note)
    with fixed_dropout():
        terms = ours.loss(toy_batch(ours.graph))
        sum(terms.values()).backward()
    yield from (agreement._replace(note=note) for agreement in reported_losses(reported, terms))
    for name, theirs, own in (
        ('user table', coach.model.user_embedding.weight, ours.encoder.user_embedding),
        ('item table', coach.model.item_id_embedding.weight, ours.encoder.item_embedding),
        ('residual weight', coach.model.res_scale, ours.encoder.rho),
    ):
        yield Agreement(f'gradient of the loss: {name}', theirs.grad.view_as(own), own.grad, note)
    for name, layer, own in _layers(coach.model, ours):
        yield Agreement(f'gradient of the loss: {name}', layer.weight.grad, own.weight.grad, note)


def _make_coach(main: ModuleType, setting: Setting, ours: GenRec) -> Any:
    batch, args = toy_batch(ours.graph), main.args
    set_flags(
        main,
        ours.graph,
        batch,
        {
            'data': setting.data,
            'latdim': CHANNELS,
            'temp': ours.contrast.temperature,
            'reg': ours.l2,
            'ssl_reg1': ours.contrast.view_weight,
            'ssl_reg2': ours.contrast.pair_weight,
            'num_layers': LAYERS,
            'image_norm': 0.05,
            'text_norm': 0.03,
        },
    )
    # without its writer and its clusters, for which the toy graph is too small
    coach = main.Coach.__new__(main.Coach)
    coach.handler = make_handler(main, ours.graph, batch)
    coach.handler.R, coach.handler.torchBiAdj = coach.handler.makeTorchAdj(coach.handler.trnMat)
    features = {name: modality.x for name, modality in ours.graph.modalities.items()}
    for name, x in features.items():
        setattr(coach, f'{name}_II_matrix', coach.buildItem2ItemMatrix(x)[1])
    coach.model = main.GCNModel(*features.values(), modal_fusion=False)
    coach.opt = torch.optim.Adam(coach.model.parameters(), lr=0.0)
    coach.diffusion_model = main.FlipInterestDiffusion(args.steps, args.flip_temp)
    coach.denoise_model_image = main.ModalDenoiseTransformer(
        ours.num_items, ours.num_items, args.d_emb_size, args.nhead, LAYERS
    )
    coach.denoise_opt_image = torch.optim.Adam(coach.denoise_model_image.parameters(), lr=0.0)
    return coach


def _layers(theirs: Module, ours: GenRec) -> Iterator[tuple[str, Module, Module]]:
    r"""Name, layer of theirs and of ours, of all layers of the encoder."""
    encoder = ours.encoder
    for name, own in encoder.encoders.items():
        blocks = (
            (f'{name} encoder', getattr(theirs, f'{name}_residual_project'), own.input),
            (f'{name} residual', getattr(theirs, f'{name}_modal_project'), own.residual),
            (f'{name} gate', getattr(theirs, f'gate_{name}_modal'), encoder.gates[name]),
        )
        for part, block, own_block in blocks:
            yield part, block[0], own_block.linear
            yield f'{part} normalization', block[1], own_block.norm
    yield 'attention key', theirs.caculate_common[0], encoder.attention.key
    yield 'attention normalization', theirs.caculate_common[1], encoder.attention.norm
    yield 'attention query', theirs.caculate_common[3], encoder.attention.query


@torch.no_grad()
def _copy_weights(coach: Any, ours: GenRec) -> None:
    encoder, denoiser = ours.encoder, ours.generator.denoiser
    model, theirs = coach.model, coach.denoise_model_image
    randomize(ours.parameters())
    model.user_embedding.weight.copy_(encoder.user_embedding)
    model.item_id_embedding.weight.copy_(encoder.item_embedding)
    model.origin_weight.copy_(encoder.view_logits[:1])
    model.generation_weight.copy_(encoder.view_logits[1:])
    model.res_scale.fill_(encoder.rho)
    for _, layer, own in _layers(model, ours):
        layer.load_state_dict(own.state_dict())
    theirs.emb_layer.load_state_dict(denoiser.step.state_dict())
    theirs.input_proj.weight.copy_(
        torch.cat([denoiser.item_weight.t(), denoiser.input.weight], dim=1)
    )
    theirs.input_proj.bias.copy_(denoiser.input.bias)
    theirs.adaLN_modulation[1].load_state_dict(denoiser.modulation.state_dict())
    for layer, own in zip(theirs.transformer_decoder.layers, denoiser.layers):
        own.load_decoder_layer(layer)
    for place, own in ((0, denoiser.hidden), (1, denoiser.norm), (3, denoiser.output)):
        theirs.output_proj[place].load_state_dict(own.state_dict())


MODELS = {'GenRec': compare_genrec}
