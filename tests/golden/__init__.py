"""Golden files: messages on the wire as they come in, and everything that is published about them until they are final.

``python -m tests.golden`` writes the expected part of each file anew; look at the difference before it is committed: what changes there
changes for every user who reads results.
"""
