import json, os
import pika

with pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_ADDRESS"])) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    mail = {
        "envelope": "news@shop.example",
        "recipient": "someone@good.example",
        "mime": "From: news@shop.example\r\nTo: someone@good.example\r\nSubject: Hello\r\n\r\nFrom pika.\r\n",
    }
    channel.basic_publish("outbox", "", json.dumps(mail), pika.BasicProperties(delivery_mode=2), mandatory=True)

    for method, _, body in channel.consume("success", inactivity_timeout=30):
        if method is not None:
            channel.basic_ack(method.delivery_tag)
            told = json.loads(body)
            print(told["recipient"], told["results"][-1]["code"], told["results"][-1]["description"])
        break
    channel.cancel()
