"""The ways that measure how soon, with how many processes and out of how much: not in rounds that alternate with Postfix. Pure."""

PACED, SCALING, BACKLOG = "i", "j", "k"
SPEED_WAYS = {
    PACED: "SMTP at half load: from 250 to the sink",
    SCALING: "two smtp-senders against one",
    BACKLOG: "a large backlog in outbox",
}
NOT_BY_DEFAULT = frozenset({BACKLOG})
"""Takes a quarter of an hour and many GB of disk: only when asked for."""
SCALE = "smtp-sender=2"
"""Copies of our processes. The process that does most of the work gets both cores; Postfix starts as many as it has deliveries."""
