"""A private mailwarren on one machine: RabbitMQ, Postgres and our processes, kept running by supervisor.

Everything listens on 127.0.0.1 at ports that were free; nothing that the machine already runs is used or touched.

Files of a stack, all below its folder (``make up`` uses ``.run``):

    env               addresses, to be sourced by a shell; there while the stack is up
    stack.json        what is remembered between runs: ports, passwords, where the data is (mode 600)
    supervisord.conf  written anew at each start; ``programs/`` beside it holds a section and a launch file per program
    log/NAME.log      output of each program, rotated
    payloads/         the message store
    rabbitmq/         node data and configuration
    postgres/         cluster, unless the user ``postgres`` cannot get here: then in a folder under the temporary one

``deploy.stack.stack.Stack`` is the one entry point; ``python -m deploy.stack`` is its command line.
"""
