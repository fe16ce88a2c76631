"""The processes of mailwarren: one folder each; no folder imports another."""
