"""A count-and-sum job in Spark Structured Streaming, local[2]: state in its store with a checkpoint on this disk,
every batch's changed rows computed and thrown away.

    python spark_job.py totals|windows BOOTSTRAP TOPIC FOLDER JARS

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
    job, bootstrap, topic, folder, jars = sys.argv[1:]
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

    def query(name: str, trigger: dict[str, bool], **limit: str) -> float:
        options = {"kafka.bootstrap.servers": bootstrap, "subscribe": topic, "startingOffsets": "earliest"}
        schema = "user_id BIGINT, timestamp TIMESTAMP, metadata STRUCT<total_amount: DECIMAL(18,2)>"
        event = f.from_json(f.col("value").cast("string"), schema).alias("event")
        events = spark.readStream.format("kafka").options(**options, **limit).load().select(event)
        amount, at_s = f.col("event.metadata.total_amount"), f.unix_timestamp("event.timestamp")
        keys = ["user_id"]
        if job == "totals":
            events = events.select("event.user_id", amount.alias("amount"))
        else:  # each event is of an hour and of a day
            keys += ["width", "number"]
            widths = f.explode(f.array(f.lit(3_600), f.lit(86_400))).alias("width")
            events = events.select("event.user_id", amount.alias("amount"), at_s.alias("at_s"), widths)
            events = events.withColumn("number", f.floor(f.col("at_s") / f.col("width")))
        totals = events.groupBy(*keys).agg(f.count("*").alias("events"), f.sum("amount").alias("spent"))
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

    query("warm", {"once": True}, maxOffsetsPerTrigger="20000")
    wall_s = query("totals", {"availableNow": True})
    print(json.dumps({"events": seen[-1], "wall_s": wall_s}))
    spark.stop()


def throw_away(frame: DataFrame, _: int) -> None:
    frame.write.format("noop").mode("append").save()


if __name__ == "__main__":
    main()
