"""The count-and-sum job in Spark Structured Streaming, local[2]: state in its store with a checkpoint on this disk,
every batch's changed rows computed and thrown away.

    python spark_totals.py BOOTSTRAP TOPIC EVENTS FOLDER JARS [ROWS_PER_BATCH]

Prints the seconds from the start of the query to its end; the JVM and a first query over a few events came before.
It runs in an environment of its own.
"""

import json
import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f


def main() -> None:
    bootstrap, topic, events, folder, jars, *rows = sys.argv[1:]
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(map(str, Path(jars).glob("*.jar"))))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "3g")
        .config("spark.sql.streaming.stateStore.providerClass",
                "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider")
        .getOrCreate()
    )  # fmt: skip
    spark.sparkContext.setLogLevel("ERROR")
    seen: list[int] = []

    def query(name: str, limit: str | None, trigger: dict[str, bool]) -> float:
        options = {"kafka.bootstrap.servers": bootstrap, "subscribe": topic, "startingOffsets": "earliest"}
        options |= {} if limit is None else {"maxOffsetsPerTrigger": limit}
        schema = "user_id BIGINT, timestamp STRING, metadata STRUCT<total_amount: DECIMAL(18,2)>"
        event = f.from_json(f.col("value").cast("string"), schema).alias("event")
        totals = (
            spark.readStream.format("kafka").options(**options).load()
            .select(event)
            .groupBy("event.user_id")
            .agg(f.count("*").alias("events"), f.sum("event.metadata.total_amount").alias("spent"))
        )  # fmt: skip
        started = time.perf_counter()
        run = (
            totals.writeStream.outputMode("update")
            .option("checkpointLocation", f"{folder}/{name}")
            .foreachBatch(throw_away)
            .trigger(**trigger)
            .start()
        )
        run.awaitTermination()
        seconds = time.perf_counter() - started
        seen.append(sum(each["numInputRows"] for each in run.recentProgress))
        return seconds

    query("warm", "20000", {"once": True})
    wall_s = query("totals", rows[0] if rows else None, {"availableNow": True})
    print(json.dumps({"events": seen[-1], "wall_s": wall_s, "asked": int(events)}))
    spark.stop()


def throw_away(frame: DataFrame, _: int) -> None:
    frame.write.format("noop").mode("append").save()


if __name__ == "__main__":
    main()
