"""What the protocol relies on in the services around it; each can be broken, to see that it is needed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promises:
    """Kept by online/, offline/ and sources/, whose own tests hold them to it.

    compare: a write is refused where the version has moved. longest: an expiry only moves outwards. first: a lost
    connection is told, never mended in silence. fate: markers go over the connection of the states. emptied: nor is
    anything written on a server that was emptied since a marker was read. snapshot: a commit on an outdated version of
    a table is refused. reset: an offset that is gone is told, never passed over.
    """

    compare: bool = True
    longest: bool = True
    first: bool = True
    fate: bool = True
    emptied: bool = True
    snapshot: bool = True
    reset: bool = True
