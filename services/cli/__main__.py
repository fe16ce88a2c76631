"""``mailwarren``: hands over to the command. Exit code 0 done, 1 not as it should be, 2 bad input (one line on stderr)."""

import sys
from collections.abc import Sequence

from shared.trouble import BadSetting


def main() -> None:
    """The installed program."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    if arguments and arguments[0] == "run":
        # Without the command line's libraries: what is imported here, every process carries.
        from services.cli.run import run

        try:
            return run(arguments[1:])
        except BadSetting as error:
            print(f"mailwarren run: {error}", file=sys.stderr)
            return 2
    from services.cli.app import call_app

    return call_app(arguments)


if __name__ == "__main__":
    main()
