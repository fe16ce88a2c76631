"""What two processes use, or what is on the wire. Dependencies point one way: amqp, storage → acceptance, delivery → wire → mail."""
