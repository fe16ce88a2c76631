"""Mail and name servers of others as private instances: own folders, own ports on loopback, nothing of the machine's own ones.

Each is used as ``with`` and is entered when it answers. It ends when the ``with`` or this process ends.
"""
