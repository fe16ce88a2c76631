import amqp from "amqplib";

const connection = await amqp.connect(process.env.RABBITMQ_ADDRESS);
const channel = await connection.createConfirmChannel();
const mail = {
  envelope: "news@shop.example",
  recipient: "someone@good.example",
  mime: "From: news@shop.example\r\nTo: someone@good.example\r\nSubject: Hello\r\n\r\nFrom Node.\r\n",
};
channel.publish("outbox", "", Buffer.from(JSON.stringify(mail)), { persistent: true, mandatory: true });
await channel.waitForConfirms();

await channel.consume("success", async (message) => {
  const told = JSON.parse(message.content.toString());
  const last = told.results.at(-1);
  console.log(told.recipient, last.code, last.description);
  channel.ack(message);
  await channel.close();
  await connection.close();
});
