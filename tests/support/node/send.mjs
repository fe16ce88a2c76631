// Sends mails with nodemailer: standard input is {"transport": options, "mails": [...]}, standard output
// [{"composed": base64 of what was sent, "accepted": [...], "rejected": [...], "response": "..."} or {"error": {...}}].
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";
import MailComposer from "nodemailer/lib/mail-composer/index.js";

const job = JSON.parse(readFileSync(0, "utf8"));
const transport = nodemailer.createTransport(job.transport);

// JSON has no bytes: {"base64": "..."} stands for some.
function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string") return Buffer.from(value.base64, "base64");
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, revive(inner)]));
}

async function send(given) {
  const mail = revive(given);
  const composed = (await new MailComposer(mail).compile().build()).toString("base64");
  try {
    const { accepted, rejected, response } = await transport.sendMail(mail);
    return { composed, accepted, rejected, response };
  } catch (error) {
    return { composed, error: { message: error.message, code: error.code, responseCode: error.responseCode } };
  }
}

const told = await Promise.all(job.mails.map(send));
transport.close();
console.log(JSON.stringify(told));
