"""Dead letters that are told to a topic, beside the table that keeps them."""

from typing import TYPE_CHECKING

from featureflow_cli.stream.outside import Letters

if TYPE_CHECKING:
    import pyarrow as pa


class Told:
    """`stream.outside.Letters`: each letter goes to the topic first, so that whatever is in the table was told.

    Cut off in between it is told again: at least once.
    """

    def __init__(self, topic: Letters, table: Letters) -> None:
        self._topic = topic
        self._table = table

    def append(self, letters: "pa.Table") -> int:
        """How many were new to the table."""
        self._topic.append(letters)
        return self._table.append(letters)
