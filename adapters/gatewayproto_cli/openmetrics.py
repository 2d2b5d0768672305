"""A gateway's metrics as OpenMetrics text. Needs the extra `metrics`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from gatewayproto.metrics import GatewayMetrics, describe

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_PREFIX: Final = "gatewayproto_"


class GatewayCollector(Collector):
    """Every metric of a gateway, taken when it is asked for.

    Names are those of `GatewayMetrics` behind `gatewayproto_`; a counter's sample ends in `_total`.
    """

    def __init__(self, take: Callable[[], GatewayMetrics]) -> None:
        self._take = take

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        metrics = self._take()
        for metric in describe(GatewayMetrics):
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = () if metric.label is None else (metric.label,)
            made = family(_PREFIX + metric.name, metric.help, labels=labels)
            value: int | Mapping[str, int] = getattr(metrics, metric.name)
            if isinstance(value, int):
                made.add_metric((), value)
            else:
                for key, number in value.items():
                    made.add_metric((str(key),), number)
            yield made


def exposition(take: Callable[[], GatewayMetrics]) -> Callable[[], bytes]:
    """What gives the text, as it is whenever it is called."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(take))

    def render() -> bytes:
        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call] # the library's
        return text

    return render
