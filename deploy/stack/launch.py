"""Turn into a program: ``python -I -S launch.py FILE``, where FILE is JSON ``{argv, cwd, set, drop}``.

supervisor's own ``environment=`` cannot carry every value (quotes, commas, percent signs), so the program's settings
come from a file. ``drop`` names prefixes of environment variables that must not reach the program.
"""

import json
import os
import sys


def main() -> None:
    """Replace this process; it keeps its pid, so that supervisor's signals reach the program."""
    with open(sys.argv[1], encoding="utf-8") as file:
        launch = json.load(file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuple(launch["drop"]))}
    os.chdir(launch["cwd"])
    os.execvpe(launch["argv"][0], launch["argv"], environment | launch["set"])  # noqa: S606 - no shell is the point


main()
