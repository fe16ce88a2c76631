"""Attacks on the way in, one file per kind, each against real processes. docs/security.md says which file proves what."""
