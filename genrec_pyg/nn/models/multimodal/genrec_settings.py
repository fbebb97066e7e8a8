r"""Settings of GenRec: which of them others take the place of, and their names in earlier
versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from genrec_pyg.nn.cluster import DebiasConfig
from genrec_pyg.nn.diffusion import (
    DenoiserConfig,
    DenoiserTrainingConfig,
    DiffusionConfig,
    GenerationConfig,
)
from genrec_pyg.nn.interest import InterestConfig, UserInterestsConfig
from genrec_pyg.nn.losses.config import RankingConfig
from genrec_pyg.nn.modality.graph_encoder import GraphEncoderConfig
from genrec_pyg.nn.models.recommender import Replaced
from genrec_pyg.nn.models.settings import Conversion, complement, moved, renamed


@dataclass(frozen=True)
class PartSettings:
    r"""Groups of settings from which the parts of a GenRec are made."""

    encoder: GraphEncoderConfig
    ranking: RankingConfig
    denoiser: DenoiserConfig
    denoiser_training: DenoiserTrainingConfig
    diffusion: DiffusionConfig
    generation: GenerationConfig
    debias: DebiasConfig
    interest: InterestConfig


def replaced_settings(options: Mapping[str, Any]) -> dict[str, Replaced]:
    r"""Settings by dotted name that the variant, the denoiser, the objective or the absence of
    generation fix.
    """
    values: dict[str, Replaced] = {}

    def fix(by: str, group: str, **fixed: Any) -> None:
        values.update({f'{group}.{name}': Replaced(value, by) for name, value in fixed.items()})

    def unused(by: str, group: str, default: Any, *names: str) -> None:
        fix(
            by,
            group,
            **{
                field.name: getattr(default, field.name)
                for field in fields(default)
                if field.name in names or not names
            },
        )

    denoiser, objective = options['denoiser.name'], options['denoiser_training.objective']
    is_released, generates = options['variant'] == 'released', options['generation.enabled']
    by_denoiser, training = f'denoiser.name={denoiser!r}', DenoiserTrainingConfig()
    if is_released:
        by = "variant='released'"
        fix(by, 'ranking', loss='bpr')
        fix(by, 'denoiser', name='transformer')
        fix(
            by,
            'denoiser_training',
            objective='focal',
            variational_weight=0.0,
            contrast_weight=0.0,
            num_negatives=0,
        )
        unused(by, 'denoiser_training', training, 'focal_alpha', 'contrast_temperature')
        unused(by, 'denoiser', DenoiserConfig(), 'rank', 'modality_weight')
        fix(by, 'diffusion', process='flip', start='diffused')
        fix(by, 'generation', candidates='all', final='sample', edge_weight='binary')
        fix(by, 'interest', weight=0.0)
        fix(by, 'user_interests', count=1)
    else:
        fix("variant='principled'", 'diffusion', flip_temp=1.0)
        if denoiser == 'linear':
            unused(
                by_denoiser,
                'denoiser_training',
                training,
                'focal_alpha',
                'contrast_weight',
                'contrast_temperature',
                'lr',
            )
            unused(by_denoiser, 'denoiser', DenoiserConfig(), 'num_layers')
            fix(
                by_denoiser,
                'denoiser_training',
                objective='squared',
                variational_weight=0.0,
                num_negatives=0,
            )
        else:
            unused(by_denoiser, 'denoiser', DenoiserConfig(), 'rank', 'modality_weight')
            if denoiser == 'perceptron':
                unused(by_denoiser, 'denoiser', DenoiserConfig(), 'num_layers')
            if objective != 'focal':
                unused(
                    f'denoiser_training.objective={objective!r}',
                    'denoiser_training',
                    training,
                    'focal_alpha',
                )
    if options['ranking.loss'] == 'bpr' or is_released:
        unused("ranking.loss='bpr'", 'ranking', RankingConfig(), 'temperature', 'num_negatives')
        fix("ranking.loss='bpr'", 'user_interests', count=1)
    if options['user_interests.count'] == 1:
        by = 'user_interests.count=1'
        unused(by, 'user_interests', UserInterestsConfig(), 'selection', 'tau', 'multi_loss')
    elif options['user_interests.selection'] == 'uniform':
        unused("user_interests.selection='uniform'", 'user_interests', UserInterestsConfig(), 'tau')
    if denoiser != 'linear' or is_released or not generates:
        names = [field.name for field in fields(InterestConfig) if field.name != 'weight']
        unused('no interest in closed form', 'interest', InterestConfig(), *names)
    else:  # the schedule and the views found for the interest take the place of the noise
        unused(by_denoiser, 'denoiser', DenoiserConfig(), 'modality_weight')
        if options['diffusion.start'] == 'observed':
            unused(by_denoiser, 'diffusion', DiffusionConfig(), 'noise_scale')
        if options['diffusion.process'] == 'gaussian':
            fix("diffusion.process='gaussian'", 'interest', ridge_power=0.0, discount=0.0)
    if options['debias.enabled'] is False:
        unused(
            'debias.enabled=False', 'debias', DebiasConfig(), 'clusters', 'sample_ratio', 'decision'
        )
    if not generates:
        by = 'generation.enabled=False'
        for group, default in (
            ('denoiser', DenoiserConfig()),
            ('denoiser_training', training),
            ('diffusion', DiffusionConfig()),
        ):
            unused(by, group, default)
        unused(
            by,
            'generation',
            GenerationConfig(),
            'topk',
            'rebuild_k',
            'candidates',
            'final',
            'edge_weight',
            'edge_dropout',
        )
        unused(by, 'debias', DebiasConfig(), 'clusters', 'sample_ratio', 'decision')
        fix(by, 'debias', enabled=False)
        fix(by, 'interest', weight=0.0)
    return values


def _without_contrast(contrasts: bool) -> dict[str, float]:
    return {} if contrasts else {'contrast.view_weight': 0.0, 'contrast.pair_weight': 0.0}


#: Settings of versions in which they stood side by side.
FORMER_SETTINGS: dict[str, Conversion] = {
    **{
        name: renamed(f'encoder.{name}')
        for name in (
            'num_layers',
            'num_item_layers',
            'num_neighbors',
            'dropout',
            'svt',
            'side_in_score',
            'specific',
            'merge',
        )
    },
    **moved(
        'ranking', ranking='loss', ranking_temperature='temperature', num_negatives='num_negatives'
    ),
    **moved(
        'contrast',
        lambda1='view_weight',
        lambda2='pair_weight',
        temperature='temperature',
        contrast_rows='group_size',
    ),
    'contrast': _without_contrast,
    **moved(
        'denoiser',
        denoiser='name',
        denoiser_layers='num_layers',
        denoiser_rank='rank',
        modality_weight='modality_weight',
    ),
    **moved(
        'denoiser_training',
        objective='objective',
        variational_weight='variational_weight',
        modality_contrast='contrast_weight',
        denoiser_negatives='num_negatives',
        denoiser_lr='lr',
        denoiser_batch_size='batch_size',
    ),
    **{
        name: renamed(f'diffusion.{name}')
        for name in ('process', 'num_steps', 'noise_scale', 'flip_temp', 'start')
    },
    **moved(
        'generation',
        generation='enabled',
        gen_topk='topk',
        rebuild_k='rebuild_k',
        candidates='candidates',
        final='final',
        edge_weight='edge_weight',
    ),
    'keep': complement('generation.edge_dropout'),
    **moved(
        'debias',
        debias='enabled',
        clusters='clusters',
        sample_ratio='sample_ratio',
        debias_decision='decision',
    ),
    **moved(
        'interest',
        interest_weight='weight',
        ridge='ridge',
        ridge_power='ridge_power',
        row_weight='row_weight',
        discount='discount',
        view_weights='view_weights',
        interest_rank='rank',
        interest_neighbors='num_neighbors',
    ),
}
