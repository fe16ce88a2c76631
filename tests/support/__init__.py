"""A local "internet" on loopback: scripted MX hosts with a ledger, a DNS zone, certificates, a seal service.

Used by the demo, the tests and the bench; depends on nothing else of this project.
"""
