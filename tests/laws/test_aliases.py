"""A view that is in a service twice: on-demand features read the one that bears the view's own name."""

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.reference_rows import vector
from featureflow_cli.compute.sql_features import service_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.rows import rows_at
from featureflow_cli.spec import models
from tests.laws.tables import table
from tests.laws.written import SCHEMA, written_as


def test_on_demand_reads_the_member_of_the_views_own_name():
    features = [{"name": "n", "count": "*", "window": "1h"}]
    written = written_as([{"name": "v", "source": "s", "entity": "user", "features": features}])
    described = written.model_dump(by_alias=True, exclude_none=True) | {
        "on_demand_features": [{"name": "twice", "expr": "v.n * 2"}],
        "feature_services": [
            {
                "name": "all",
                "features": ["v:*", {"view": "v", "as": "other", "join_keys": {"uid": "oid"}}, "twice"],
            }
        ],
    }
    definitions = written.model_copy(
        update={
            name: getattr(models.Definitions.model_validate({name: described[name]}), name)
            for name in ("on_demand_features", "feature_services")
        }
    )
    repo = compile_repo(models.StoreConfig(project="laws"), definitions)
    service, nothing = repo.services["all"], dict.fromkeys(SCHEMA)
    events = [nothing | {"uid": uid, "ts": at} for uid, at in ((1, 10), (2, 10), (2, 20), (2, 30))]
    row = {"uid": 1, "oid": 2}
    assert vector(service, {"s": events}, row, 100)["twice"] == 2
    with Engine() as engine:
        engine.register("given", table(repo.sources["s"], events))
        labels = pa.table({"uid": [1], "oid": [2]})
        rows = rows_at(engine, service, {"s": "given"}, labels, np.array([100]))
        moment = pa.array([100], pa.int64()).cast(pa.timestamp("us", "UTC"))
        engine.register("asked", labels.append_column("at", moment))
        plain_sql = engine.table(service_sql(service, "asked", {"s": "given"}, "at"))
    assert plain_sql.column("twice").to_pylist() == [2]
    assert {name: column.to_pylist() for name, column in rows.columns.items()} == {
        "v__n": [1],
        "other__n": [3],
        "twice": [2],
    }
