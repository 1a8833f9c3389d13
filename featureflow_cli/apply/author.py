"""Who applies, for the history."""

import getpass
import platform


def author() -> str:
    """`ann@laptop`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "unknown"
    return f"{user}@{platform.node() or 'unknown'}"
