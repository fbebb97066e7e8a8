r"""What a service tells Prometheus
(https://prometheus.io/docs/instrumenting/exposition_formats).
"""

from __future__ import annotations

import prometheus_client as prometheus

#: Upper bounds of the latency histogram in seconds.
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LISTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    r"""Counters and histograms of one service."""

    def __init__(self) -> None:
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        common = {'registry': self._registry}
        self._requests = prometheus.Counter(
            'genrec_requests', 'Requests by path and status.', ['path', 'status'], **common
        )
        self._seconds = prometheus.Histogram(
            'genrec_request_seconds',
            'Time from the request to the last byte of the answer.',
            ['path'],
            buckets=_SECONDS,
            **common,
        )
        self._batch = prometheus.Histogram(
            'genrec_batch_lists', 'Lists that were made together.', buckets=_LISTS, **common
        )
        self._reloads = prometheus.Counter(
            'genrec_reloads', 'Bundles that were found, by outcome.', ['outcome'], **common
        )
        self._bundle = prometheus.Gauge(
            'genrec_bundle',
            'The bundle that answers now.',
            ['bundle', 'model', 'dataset'],
            **common,
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        r"""Counts an answered request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, size: int) -> None:
        r"""Counts a batch of ``size`` lists."""
        self._batch.observe(size)

    def reload(self, good: bool) -> None:
        r"""Counts a reload."""
        self._reloads.labels('loaded' if good else 'refused').inc()

    def bundle(self, name: str, model: str, dataset: str) -> None:
        r"""Names the bundle in use."""
        self._bundle.clear()
        self._bundle.labels(name, model, dataset).set(1)

    def text(self) -> bytes:
        r"""All figures in the text format."""
        return prometheus.generate_latest(self._registry)


#: Type of :meth:`Metrics.text`.
CONTENT_TYPE = (
    prometheus.CONTENT_TYPE_PLAIN_0_0_4
    if hasattr(prometheus, 'CONTENT_TYPE_PLAIN_0_0_4')
    else 'text/plain; version=0.0.4; charset=utf-8'
)
