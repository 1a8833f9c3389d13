"""What an entity costs in Redis: its states as they are, and one key per feature with a TTL for the same entities."""

from dataclasses import dataclass

from bench.streaming.workload import LISTPACKS, Bench, featureflow, project

TTL_S = 30 * 24 * 3600
USER = {
    "purchase_count_1h": "0", "purchase_count_24h": "2", "item_view_count_1h": "3", "item_view_count_24h": "17",
    "cart_count_1h": "1", "total_spend_24h": "123.45", "conversion_rate_7d": "0.0833",
    "category_affinity": "books,toys,garden", "avg_session_duration": "12.5", "days_since_last_purchase": "0.84",
}  # fmt: skip
ITEM = {
    "view_count_1h": "12", "view_count_24h": "240", "purchase_count_24h": "19", "cart_add_count_1h": "2",
    "conversion_rate_24h": "0.0791", "revenue_24h": "2345.67", "popularity_rank_1h": "0.3158", "avg_rating": "4.125",
}  # fmt: skip
"""The 18 values of a user and an item, as short as they are."""


@dataclass(frozen=True)
class Bytes:
    """Of Redis' used_memory an entity."""

    compact: float
    default: float
    keys: float
    entities: int


def bytes_per_entity(bench: Bench) -> Bytes:
    """After the whole topic; the second time the states come back from the offline log, into Redis' default form."""
    with bench.redis.client() as client:
        folder = project(bench, "states")
        empty = client.info("memory")["used_memory"]
        featureflow(folder, "stream", "--once")
        compact = client.info("memory")["used_memory"] - empty
        ids = {
            entity: [
                key.rpartition(b":")[2].decode() for key in client.scan_iter(f"ff:states:{entity}:*", 1000)
            ]
            for entity in ("user", "item")
        }
        client.flushall()
        client.config_set("hash-max-listpack-value", 64)
        empty = client.info("memory")["used_memory"]
        featureflow(folder, "stream", "--once")
        default = client.info("memory")["used_memory"] - empty
        client.config_set("hash-max-listpack-value", LISTPACKS["hash-max-listpack-value"])
        client.flushall()
        empty = client.info("memory")["used_memory"]
        pipeline = client.pipeline(transaction=False)
        for entity, values in (("user", USER), ("item", ITEM)):
            for start in range(0, len(ids[entity]), 1_000):
                for id in ids[entity][start : start + 1_000]:
                    for name, value in values.items():
                        pipeline.setex(f"{entity}:{id}:{name}", TTL_S, value)
                pipeline.execute()
        keys = client.info("memory")["used_memory"] - empty
        client.flushall()
    entities = sum(map(len, ids.values()))
    return Bytes(compact / entities, default / entities, keys / entities, entities)
