r"""Debiasing of generated interactions by interest clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.utils.validation import check_choice


@dataclass(frozen=True)
class DebiasConfig:
    r"""Debiasing of generated interactions by interest clusters, see :class:`InterestDebias`.

    Args:
        enabled: Whether generated changes are debiased; :obj:`None` leaves it to the model.
        clusters: Interest clusters: a number for every modality, ``'auto'``, a mapping from
            modality to either, or of the fused features ``'spectral'`` or ``'eigengap'``, see
            :func:`~genrec_pyg.nn.cluster.interest_labels`.
        sample_ratio: Share of the changes that is checked.
        decision: ``'largest'`` or ``'majority'``, which modality decides over removed clicks.
    """

    enabled: bool | None = None
    clusters: int | str | dict[str, int | str] = 20
    sample_ratio: float = 0.1
    decision: str = 'largest'

    def __post_init__(self) -> None:
        check_choice('decision', self.decision, ('largest', 'majority'))
        if not 0 <= self.sample_ratio <= 1:
            raise ConfigError(
                f'sample_ratio: got {self.sample_ratio}, accepted are numbers in [0, 1]'
            )


class InterestDebias(GraphModule):
    r"""Keeps a generated change only if the user's interest clusters support it
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_).

    Of the changed entries a random share ``sample_ratio`` is checked, the others stay:

    * an added item (0 to 1) stays if its cluster is among the clusters of the user's training items
      in **any** modality;
    * a removed item (1 to 0, an accidental click) stays removed if the user has at most one more
      item in its cluster than in the user's smallest cluster, decided in the modality where that
      count is largest, or by majority over modalities.

    A modality votes only if the item has a cluster in it and the user has clustered training items;
    without any such modality (a user without items, an item without features) there is no evidence
    and the change stays. Ties: the first of several equally large counts decides, and half of the
    votes restore a click.

    Counts per user and cluster are kept as sorted pairs, so memory grows with interactions and a
    check is a binary search: no loop over users or pairs, nothing of size users x clusters.

    Args:
        labels: Modality to cluster of every item ``[I]``, -1 for none.
        edge_index: Training interactions ``[2, E]``.
        num_users: Number of users.
        sample_ratio: Share of changes that is checked.
        decision: ``'largest'`` or ``'majority'``.

    Raises:
        ConfigError: On an option outside its accepted values, without any modality, or with labels
            of different lengths.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.cluster import InterestDebias
        >>> labels = {'image': torch.tensor([0, 0, 1])}
        >>> debias = InterestDebias(labels, torch.tensor([[0], [0]]), 1, sample_ratio=1.0)
        >>> user, item = torch.tensor([0, 0]), torch.tensor([1, 2])  # items of cluster 0 and 1
        >>> debias.filter(user, item, added=torch.tensor([True, True]))
        tensor([ True, False])
    """

    def __init__(
        self,
        labels: dict[str, Tensor],
        edge_index: Tensor,
        num_users: int,
        sample_ratio: float = 0.1,
        decision: str = 'largest',
    ):
        super().__init__()
        if not labels:
            raise ConfigError('labels: got no modality, accepted is at least one')
        if len({label.numel() for label in labels.values()}) > 1:
            lengths = {name: label.numel() for name, label in labels.items()}
            raise ConfigError(
                f'labels: got {lengths} entries, accepted is one per item in every modality'
            )
        DebiasConfig(sample_ratio=sample_ratio, decision=decision)  # checks them
        self.labels = labels
        self.sample_ratio = sample_ratio
        self.decision = decision
        self.num_clusters = {name: int(label.max()) + 1 for name, label in labels.items()}
        self.keys: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.smallest: dict[str, Tensor] = {}
        for name, label in labels.items():
            user, cluster = edge_index[0], label[edge_index[1]]
            key = (user * self.num_clusters[name] + cluster)[cluster >= 0]
            self.keys[name], self.counts[name] = torch.unique(key, return_counts=True)
            owner = self.keys[name] // max(self.num_clusters[name], 1)
            self.smallest[name] = (
                self.counts[name]
                .new_zeros(num_users)
                .scatter_reduce(0, owner, self.counts[name], 'amin', include_self=False)
            )

    def count(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Per modality ``[M, n]``: training items of ``user`` in the cluster of ``item``, the size
        of the user's smallest cluster (0 without any), and whether the item has a cluster.
        """
        counts, smallest, known = [], [], []
        for name, label in self.labels.items():
            cluster, keys = label[item], self.keys[name]
            has_cluster = cluster >= 0
            if keys.numel() == 0:
                found = torch.zeros_like(cluster)
            else:
                key = user * self.num_clusters[name] + cluster
                position = torch.searchsorted(keys, key).clamp(max=keys.numel() - 1)
                found = torch.where(
                    has_cluster & (keys[position] == key), self.counts[name][position], 0
                )
            counts.append(found)
            smallest.append(self.smallest[name][user])
            known.append(has_cluster)
        return torch.stack(counts), torch.stack(smallest), torch.stack(known)

    def filter(
        self, user: Tensor, item: Tensor, added: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Decides over changed entries.

        Args:
            user: Users ``[n]``.
            item: Items ``[n]``.
            added: Boolean ``[n]``: the entry changed from 0 to 1, otherwise from 1 to 0.
            generator: Random generator; the device's global one by default.

        Returns:
            Boolean ``[n]``: the change is kept.
        """
        keep = torch.ones_like(added)
        checked = (
            (torch.rand(user.numel(), device=user.device, generator=generator) < self.sample_ratio)
            .nonzero()
            .view(-1)
        )
        keep[checked] = self._decide(user[checked], item[checked], added[checked])
        return keep

    def _decide(self, user: Tensor, item: Tensor, added: Tensor) -> Tensor:
        count, smallest, known = self.count(user, item)
        known = known & (smallest > 0)
        keep_added = (known & (count > 0)).any(dim=0)
        accidental = known & (count <= smallest + 1)
        if self.decision == 'largest':
            # Distinct numbers, so that the first of equal counts wins on every device.
            order = torch.arange(len(count), device=user.device).unsqueeze(1)
            largest = (len(count) * count.masked_fill(~known, -1) - order).argmax(
                dim=0, keepdim=True
            )
            keep_removed = accidental.gather(0, largest).squeeze(0)
        else:
            keep_removed = 2 * accidental.sum(dim=0) > known.sum(dim=0)
        return torch.where(added, keep_added, keep_removed) | ~known.any(dim=0)
