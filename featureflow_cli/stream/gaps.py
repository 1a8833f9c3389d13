"""Events that their source let go before they were in the log: nobody can decide them any more [reset]."""

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.stream.outside import Outside


def pass_over(partition: int, source: Source, outside: Outside, skip_lost: bool) -> int:
    """Move the log's end to where the source has the partition from: whoever reads it sees that nothing is there.

    Answers how many events are passed over: 0 where the log reaches that far. FeatureflowError where it does not,
    and `skip_lost` is not asked for.
    """
    log = outside.log
    if log is None:
        return 0
    end = log.snapshot().ends.get(partition)
    first = outside.intake.first(partition)
    if end is None or end >= first:
        return 0
    if not skip_lost:
        what = f"source '{source.name}': events {end} to {first - 1} of partition {partition} are gone"
        hint = (
            "the topic's retention passed before they were streamed: no feature can know them;"
            " to go on without them: featureflow stream --skip-lost"
        )
        raise FeatureflowError(what, hint=hint)
    log.append(log.schema.empty_table(), {partition: (end, first)}, log.snapshot())
    return first - end
