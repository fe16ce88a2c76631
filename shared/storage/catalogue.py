"""The collections of named documents that more than one program reads or writes."""

from shared.delivery import local_patterns, pools, stops, suppressions
from shared.storage.documents import Collection

POOLS = Collection("pools", "pool", "pools", pools.FIELDS, pools.parse_pool)
SUPPRESSIONS = Collection(
    "suppressions", "suppression", "suppressions", suppressions.FIELDS, suppressions.parse_suppression, suppressions.fold_name
)
PAUSES = Collection("pauses", "pause", "pauses", stops.PAUSE_FIELDS, stops.parse_pause)
LOCALS = Collection(
    "locals",
    "local recipient",
    "local recipients",
    local_patterns.FIELDS,
    local_patterns.parse_local,
    local_patterns.fold_local_name,
)
ERRORS = Collection("errors", "forced error", "forced errors", stops.ERROR_FIELDS, stops.parse_error)
