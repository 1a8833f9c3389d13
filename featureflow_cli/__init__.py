"""FeatureFlow: features defined once, the same in stream, training and serving.

The public names, imported when first asked for: `import featureflow_cli` alone loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featureflow_cli.api.answers import HistoricalFeatures, OnlineFeatures
    from featureflow_cli.api.consistency import ConsistencyChecker
    from featureflow_cli.api.point_in_time import PointInTimeDatasetBuilder
    from featureflow_cli.api.registry import FeatureRegistry
    from featureflow_cli.api.store import FeaturePlan, FeatureStore
    from featureflow_cli.errors import (
        CheckFailed,
        Conflict,
        DefinitionError,
        FeatureflowError,
        NotFound,
        StoreUnavailable,
        UsageError,
    )
    from featureflow_cli.spec.models import FeatureService, ViewReference

__all__ = [
    "CheckFailed",
    "Conflict",
    "ConsistencyChecker",
    "DefinitionError",
    "FeaturePlan",
    "FeatureRegistry",
    "FeatureService",
    "FeatureStore",
    "FeatureflowError",
    "HistoricalFeatures",
    "NotFound",
    "OnlineFeatures",
    "PointInTimeDatasetBuilder",
    "StoreUnavailable",
    "UsageError",
    "ViewReference",
]

_HOMES = {
    "featureflow_cli.api.answers": ("HistoricalFeatures", "OnlineFeatures"),
    "featureflow_cli.api.consistency": ("ConsistencyChecker",),
    "featureflow_cli.api.point_in_time": ("PointInTimeDatasetBuilder",),
    "featureflow_cli.api.registry": ("FeatureRegistry",),
    "featureflow_cli.api.store": ("FeaturePlan", "FeatureStore"),
    "featureflow_cli.errors": (
        *("CheckFailed", "Conflict", "DefinitionError", "FeatureflowError", "NotFound"),
        *("StoreUnavailable", "UsageError"),
    ),
    "featureflow_cli.spec.models": ("FeatureService", "ViewReference"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    message = f"module 'featureflow_cli' has no attribute '{name}'"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
