r"""DiffMM against the code of its authors: denoisers, losses of the diffusion, generated graphs,
encoder and its losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch.nn import Linear, Module

from benchmarks.parity.coach import dense, import_main, make_handler, reported_losses, set_flags
from benchmarks.parity.comparison import (
    Agreement,
    foreign_code,
    pair_agreements,
    toy_batch,
    toy_graph,
)
from genrec_pyg.nn.diffusion import InterestGenerator, ItemViews
from genrec_pyg.nn.models import DiffMM
from genrec_pyg.ops import unit_rows

REPOSITORY = 'HKUDS/DiffMM (no license)'

#: Widths of embeddings and denoiser.
CHANNELS, HIDDEN = 8, 16
#: Weights of the terms, more than the published ones, so that none is lost beside another.
WEIGHTS = {'l2': 0.01, 'contrast_weight': 0.3}
SIGNAL_WEIGHT = 0.4


class Setting(NamedTuple):
    r"""One of their datasets, its modalities, and our names and their numbers of transform and
    contrast.
    """

    data: str
    modalities: Sequence[str]
    transform: str
    trans: int
    contrast_method: str
    cl_method: int


SETTINGS = (
    Setting('tiktok', ('image', 'text', 'audio'), 'linear', 1, 'final', 1),
    Setting('tiktok', ('image', 'text', 'audio'), 'bilinear', 0, 'pairs', 0),
    Setting('baby', ('image', 'text'), 'mixed', 2, 'pairs', 0),
)


def compare_diffmm(checkout: Path) -> list[Agreement]:
    r"""All quantities in all settings, those of the diffusion in the first."""
    with foreign_code(checkout):
        main = import_main(checkout)
        return [
            agreement._replace(
                quantity=f'{len(setting.modalities)} modalities, {setting.transform}, '
                f'{setting.contrast_method}: {agreement.quantity}'
            )
            for setting in SETTINGS
            for agreement in _compare(main, setting)
        ]


def _compare(main: ModuleType, setting: Setting) -> Iterator[Agreement]:
    torch.manual_seed(0)
    ours = DiffMM(
        toy_graph(setting.modalities),
        setting.modalities,
        CHANNELS,
        transform=setting.transform,
        denoiser={'channels': HIDDEN},
        denoiser_training={'signal_weight': SIGNAL_WEIGHT},
        generation={'edge_dropout': 0.0},
        contrast_method=setting.contrast_method,
        **WEIGHTS,
    )
    coach = _make_coach(main, setting, ours)
    _copy_weights(coach, ours)
    views = ours.item_views()
    if setting is SETTINGS[0]:  # all have the same diffusion
        for name, generator in ours.generators.items():
            yield from _compare_denoiser(
                coach, getattr(coach, f'denoise_model_{name}'), generator, views[name], name
            )
    reported = coach.trainEpoch()
    for name, generator in ours.generators.items():
        generator.generate(views[name])
        yield Agreement(
            f'{name}: generated graph',
            getattr(coach, f'{name}_UI_matrix').to_dense(),
            dense(generator.adjacency()),
            'estimates are positive; theirs makes an edge of a negative one, ours does not',
        )
    yield from _compare_encoder(coach, ours, reported)


def _compare_denoiser(
    coach: Any, theirs: Module, generator: InterestGenerator, views: ItemViews, name: str
) -> Iterator[Agreement]:
    diffusion, rows = coach.diffusion_model, generator.rows(torch.arange(generator.graph.num_users))
    clean, t = rows.dense(), torch.arange(rows.num_rows) % diffusion.steps
    generator.eval()  # no dropout: it is compared below, with equal draws
    with torch.no_grad():
        noisy = diffusion.q_sample(clean, t, torch.randn_like(clean))
        yield Agreement(
            f'{name}: denoiser', theirs(noisy, t, False), generator.denoiser(noisy, t, views)
        )
        yield Agreement(
            f'{name}: reverse chain',
            diffusion.p_sample(theirs, clean, 0),
            generator.sample(rows, views),
        )
    generator.train()
    torch.manual_seed(1)  # both draw steps, noise and dropout, in this order
    squared, signal = diffusion.training_losses(theirs, clean, views.items, None, views.features)
    torch.manual_seed(1)
    terms, weight = generator.loss(rows, views), generator.denoiser_training.signal_weight
    note = 'same steps, noise and dropout'
    yield Agreement(
        f'{name}: squared error', squared.mean().detach(), terms['denoiser_squared'].detach(), note
    )
    yield Agreement(
        f'{name}: modality signal',
        weight * signal.mean().detach(),
        terms['denoiser_signal'].detach(),
        note,
    )
    (first,) = torch.autograd.grad(
        squared.mean() + weight * signal.mean(), theirs.in_layers[0].weight
    )
    (own,) = torch.autograd.grad(sum(terms.values()), generator.denoiser.item_weight)
    yield Agreement(
        f'{name}: gradient of both, first layer', first[:, : rows.num_items].t(), own, note
    )


def _compare_encoder(coach: Any, ours: DiffMM, reported: dict[str, float]) -> Iterator[Agreement]:
    graphs = (
        coach.handler.torchBiAdj,
        *(getattr(coach, f'{name}_UI_matrix') for name in ours.generators),
    )
    with torch.no_grad():
        yield from pair_agreements(coach.model.forward_MM(*graphs), ours.embed())
        features = {name: unit_rows(x) for name, x in ours.features().items()}
        halves = coach.model.forward_cl_MM(*graphs)
        views = (torch.cat(pair) for pair in zip(halves[::2], halves[1::2]))
        for name, theirs, own in zip(
            features, views, ours.contrast_views(features, ours.generated())
        ):
            yield Agreement(f'{name}: contrastive view', theirs, own)
    terms = ours.loss(toy_batch(ours.graph))
    sum(terms.values()).backward()
    yield from reported_losses(reported, terms)
    model = coach.model
    for name, theirs, own in (
        ('user table', model.uEmbeds, ours.embedding.user),
        ('item table', model.iEmbeds, ours.embedding.item),
        ('modality weights', model.modal_weight, ours.modal_logits),
    ):
        yield Agreement(f'gradient of the loss: {name}', theirs.grad, own.grad)
    for name, encoder in ours.encoders.items():
        transform, own = getattr(model, f'{name}_trans'), encoder.linear.weight.grad
        theirs = transform.weight.grad if isinstance(transform, Linear) else transform.grad.t()
        yield Agreement(f'gradient of the loss: {name} transform', theirs, own)


def _make_coach(main: ModuleType, setting: Setting, ours: DiffMM) -> Any:
    batch = toy_batch(ours.graph)
    set_flags(
        main,
        ours.graph,
        batch,
        {
            'data': setting.data,
            'latdim': CHANNELS,
            'dims': f'[{HIDDEN}]',
            'gnn_layer': ours.num_layers,
            'trans': setting.trans,
            'cl_method': setting.cl_method,
            'temp': ours.temperature,
            'reg': ours.l2,
            'ssl_reg': ours.contrast_weight,
            'e_loss': SIGNAL_WEIGHT,
            'ris_adj_lambda': ours.generated_weight,
            'ris_lambda': ours.residual_weight,
            'rebuild_k': 1,
        },
    )
    handler = make_handler(main, ours.graph, batch)
    handler.torchBiAdj = handler.makeTorchAdj(handler.trnMat)
    coach = main.Coach(handler)
    coach.prepareModel()
    return coach


@torch.no_grad()
def _copy_weights(coach: Any, ours: DiffMM) -> None:
    model = coach.model
    model.uEmbeds.copy_(ours.embedding.user)
    model.iEmbeds.copy_(ours.embedding.item)
    ours.modal_logits.copy_(torch.linspace(-0.5, 0.5, len(ours.encoders)))
    model.modal_weight.copy_(ours.modal_logits)
    for name, encoder in ours.encoders.items():
        transform = getattr(model, f'{name}_trans')
        if isinstance(transform, Linear):
            transform.load_state_dict(encoder.linear.state_dict())
        else:
            transform.copy_(encoder.linear.weight.t())
        own, theirs = ours.generators[name].denoiser, getattr(coach, f'denoise_model_{name}')
        own.output.bias += 1  # so that estimates are positive
        theirs.emb_layer.load_state_dict(own.step.state_dict())
        theirs.in_layers[0].weight.copy_(torch.cat([own.item_weight.t(), own.input.weight], dim=1))
        theirs.in_layers[0].bias.copy_(own.input.bias)
        theirs.out_layers[0].load_state_dict(own.output.state_dict())


MODELS = {'DiffMM': compare_diffmm}
