import asyncio, json, os
import aio_pika


async def main():
    connection = await aio_pika.connect(os.environ["RABBITMQ_ADDRESS"])
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        outbox = await channel.get_exchange("outbox")
        mail = {
            "envelope": "news@shop.example",
            "recipient": "someone@good.example",
            "mime": "From: news@shop.example\r\nTo: someone@good.example\r\nSubject: Hello\r\n\r\nFrom aio-pika.\r\n",
        }
        message = aio_pika.Message(json.dumps(mail).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await outbox.publish(message, routing_key="", mandatory=True)  # returns when RabbitMQ has confirmed

        success = await channel.get_queue("success")
        async with success.iterator(timeout=30) as results:
            async for result in results:
                async with result.process():
                    told = json.loads(result.body)
                    print(told["recipient"], told["results"][-1]["code"], told["results"][-1]["description"])
                    break


asyncio.run(main())
