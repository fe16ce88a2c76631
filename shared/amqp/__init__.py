"""RabbitMQ: connection, publisher, the one consumer loop, topology. The only importer of aio_pika and aiormq."""
