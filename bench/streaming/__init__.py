"""The stream on a real Kafka and a real Redis, against a floor and other engines: `python -m bench.streaming`."""
