"""mailwarren: the command that runs the processes and looks after them.

A file per group of commands; ``app`` puts them together, ``run`` stands apart from it: a process that it starts must not
pay for the memory of the command line's libraries.
"""
