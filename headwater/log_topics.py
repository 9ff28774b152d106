"""Names of the log's topics (contracts §6)."""

READINGS = "headwater.readings"
EVENTS = "headwater.events"
RESULTS = "headwater.results"
DEVICES = "headwater.devices"
DEAD_LETTERS = "headwater.dead-letters"

ALL = (READINGS, EVENTS, RESULTS, DEVICES, DEAD_LETTERS)
PARTITIONS_DEFAULT = 12
