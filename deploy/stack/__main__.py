"""``python -m deploy.stack up|down|status|logs|clean``: what ``make up`` and the others call."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from deploy.stack.places import ROOT, StackError
from deploy.stack.services import find_given, parse_scale
from deploy.stack.stack import Stack
from deploy.stack.status import render_status


def main() -> int:
    """Run one command; 0 when all is well, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(prog="python -m deploy.stack")
    parser.add_argument("command", choices=["up", "down", "status", "logs", "clean"])
    parser.add_argument("--folder", type=Path, default=ROOT / ".run", help="where the stack lives (default: .run)")
    parser.add_argument("--servers-only", action="store_true", help="RabbitMQ and Postgres alone")
    parser.add_argument("--service", default="", help="logs of this service only")
    arguments = parser.parse_args()
    if arguments.command != "up" and not (arguments.folder / "stack.json").exists():
        print(f"No stack has been started in {arguments.folder}.")
        return 0
    try:
        return _run(arguments)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # `up` has already taken down what it had started


def _run(arguments: argparse.Namespace) -> int:
    stack = Stack(
        arguments.folder,
        environment=os.environ,
        servers_only=arguments.servers_only,
        scale=parse_scale(os.environ.get("SCALE", "")),
        say=lambda line: print(line, flush=True),
    )
    match arguments.command:
        case "up" if stack.is_up and (ignored := stack.find_ignored()):
            raise StackError(f"Already up, and not with the {', '.join(ignored)} given now: `make down` first.")
        case "up" if stack.is_up:
            print("Already up; `make status` shows it, `make down` stops it.")
        case "up":
            stack.up()
            _tell(stack)
        case "down":
            stack.down()
            print("Down: nothing of it is running.")
        case "clean":
            stack.clean()
            print(f"Down, and {stack.folder} is deleted.")
        case "status" if stack.is_up:
            print(render_status(stack))
        case "status":
            left = stack.leftovers
            print(f"Not up, but {left} processes are left of it: `make down` ends them." if left else "Down.")
        case "logs":
            return _follow_logs(stack, arguments.service)
    return 0


def _tell(stack: Stack) -> None:
    """Where a user finds what he has started."""
    width = max(map(len, stack.env))
    for name, value in stack.env.items():
        print(f"  {name.ljust(width)}  {value}")
    if find_given(os.environ).get("OUTBOUND_SEAL_ADDR") is None:
        print("  Nothing listens at OUTBOUND_SEAL_ADDR: sealed mail is tried again until you give the address of a seal service.")
    print(f"Up. The addresses above for your shell: . {os.path.relpath(stack.folder / 'env')}")


def _follow_logs(stack: Stack, service: str) -> int:
    """The ends of the logs and what is added, each line after its program's name; until interrupted."""
    logs = sorted((stack.folder / "log").glob(f"{service}*.log"))
    if not logs:
        raise StackError(f"no log of {service!r}: there are {', '.join(sorted(p.stem for p in stack.folder.glob('log/*.log')))}")
    width = max(len(log.stem) for log in logs)
    name = logs[0].stem
    with subprocess.Popen(
        ["tail", "-n", "20", "-F", *map(str, logs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
    ) as follower:
        try:
            for line in follower.stdout or ():
                if line.startswith("==> ") and line.endswith(" <==\n"):
                    name = Path(line[4:-5]).stem
                elif line.strip():
                    print(f"{name.ljust(width)} | {line}", end="", flush=True)
        except KeyboardInterrupt:
            follower.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
