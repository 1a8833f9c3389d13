"""Hypothesis profiles: quick while writing, repeatable in CI, long to hunt; HYPOTHESIS_PROFILE chooses.

Fixtures of real services (`redis_url`, `redis_cluster_url`, `kafka`): tests/services/fixtures.py.
"""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.fixtures"]

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=50, **COMMON)
settings.register_profile("ci", max_examples=200, derandomize=True, print_blob=True, **COMMON)
settings.register_profile("hunt", max_examples=3000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
