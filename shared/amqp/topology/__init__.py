"""Exchanges, queues and bindings: the file ``topology.json``, what it declares, and whether the broker is as it says.

objects     the values: Exchange, Queue, Binding, Topology
parse       text → Topology, errors with line and column (pure)
default     the topology.json that we ship, and what is in it for whom
routing     which queues a key leads to (pure)
difference  wanted against found (pure)
complete    a user's file plus what our processes need (pure)
draw        the map as text and SVG (pure)
declare     applies a topology to a broker
inspect     what a broker has: passive AMQP, management API
verify      what a process looks at before it starts
"""
