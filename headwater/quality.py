"""The quality code that travels with a reading: one uint8, ordered from good to missing.

0          good
1..63      uncertain: usable, with a reason to doubt
64..254    bad: stored and shown, never aggregated, never learnt from
255        missing: no reading was taken at this place of a block
"""

from enum import IntEnum

BAD_MIN = 64
MISSING = 255


class Quality(IntEnum):
    """Codes in use; a decoder keeps codes that it doesn't know and judges them by their range."""

    GOOD = 0
    UNCERTAIN = 1
    UNCERTAIN_RATE = 2
    UNCERTAIN_STUCK = 3
    UNCERTAIN_GAP = 4
    UNCERTAIN_CLOCK = 5
    BAD = 64
    BAD_RANGE = 65
    BAD_STUCK = 66
    BAD_SENSOR = 67
    MISSING = 255
