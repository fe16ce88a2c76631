"""Fuzz targets for what reads a stranger's octets, and their runner.

    python -m tests.fuzz                          names the targets
    python -m tests.fuzz data --seconds 60        new inputs for a minute, guided by coverage (needs atheris)
    python -m tests.fuzz data --reproduce FILE    one input again, without atheris

A target is a module with ``run(data)``, which raises on what must not happen, ``SEEDS`` to begin with, and ``WORDS`` to build from.
What atheris finds is written to the current folder as ``crash-…``.
"""
