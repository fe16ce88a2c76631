"""json-inbox, one file per kind of call, each against a real process."""
