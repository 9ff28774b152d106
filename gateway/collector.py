"""How often Python's garbage collector looks at a process that is a gateway.

Every message is a handful of objects that live until their group is in the log: none of them in a cycle, and young
enough for a collector at its defaults to look at them again and again, for about a tenth of the gateway's CPU.
"""

import gc

YOUNG_MAX = 50_000


def rest_collector() -> None:
    """Leaves what is loaded out of collections and lets more objects come before each; for a process of its own.

    Call it once, after the imports. Cycles are still found, only later: what waits is bounded by `YOUNG_MAX` objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)
