"""Puts the commands together."""

import logging
import sys
from collections.abc import Sequence

import structlog
import typer
from typer.exceptions import Abort, TyperException

from services.cli import (
    archive,
    counters,
    errors,
    explain,
    locals,
    migrate,
    pauses,
    pools,
    redrive,
    results,
    rules,
    search,
    send,
    show,
    suppressions,
    tokens,
    topology,
    users,
    webhooks,
)
from shared.trouble import BadMessage, BadSetting, BrokerLost, Unavailable

HELP = """The mail pipeline's command: runs its processes, sets up its servers, looks after its mail.

\b
First steps
  mailwarren migrate                            tables in Postgres (DB_URI)
  mailwarren amqpinit amqp://localhost/ < topology.json
                                                exchanges and queues in RabbitMQ
  mailwarren run smtp-sender                    a process; 'mailwarren run --help' lists them
  mailwarren send --to you@example.org          a test mail through the SMTP inbox
  mailwarren results failure --follow           results as they pass
  mailwarren show MESSAGE-ID                    every attempt of one mail
  mailwarren search --recipient ADDRESS         what became of their mail; 'mailwarren counters': how many

\b
Settings come from options, else the environment (RABBITMQ_ADDRESS, RABBITMQ_API, DB_URI,
SMTP_INBOX_ADDRESS, HTTP_ADDRESS; 'set -a; . .run/env' after 'make up'), else --config FILE.
Exit code: 0 done, 1 not as it should be, 2 bad input.
"""

app = typer.Typer(
    name="mailwarren",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.command("run", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
def _run() -> int:
    """Run one of the processes: 'mailwarren run --help'."""
    raise AssertionError("services.cli.__main__ takes 'run' before this file is read: its processes must stay small")


migrate.register(app)
topology.register(app)
send.register(app)
results.register(app)
show.register(app)
search.register(app)
counters.register(app)
rules.register(app)
pools.register(app)
suppressions.register(app)
locals.register(app)
pauses.register(app)
errors.register(app)
webhooks.register(app)
redrive.register(app)
explain.register(app)
archive.register(app)
users.register(app)
tokens.register(app)


def call_app(arguments: Sequence[str], application: typer.Typer = app, name: str = "mailwarren") -> int:
    """Run one command; the exit code. What is wrong becomes one line on stderr, never a traceback."""
    _configure_logs()
    try:
        code = application(list(arguments), prog_name=name, standalone_mode=False)
    except TyperException as error:
        text = error.format_message()
        if text.startswith("Usage:"):
            # A group without a command shows its help.
            print(text, file=sys.stderr)
        else:
            print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
        return error.exit_code
    except (BadSetting, BadMessage) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except (Unavailable, BrokerLost) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except (Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.stderr.close()
        return 1
    return code if isinstance(code, int) else 0


def _configure_logs() -> None:
    """Errors alone, readable, on stderr. What waits and retries in a process is told by a command in its own words."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        # Looked up at each use: tests and callers replace sys.stderr.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.getLogger("aiormq").setLevel(logging.CRITICAL + 1)
