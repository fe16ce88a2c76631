curl -sS "$HTTP_ADDRESS/v1/messages" -H 'Content-Type: application/json' -d '{
  "envelope": "news@shop.example",
  "recipient": "someone@good.example",
  "mime": "From: news@shop.example\r\nTo: someone@good.example\r\nSubject: Hello\r\n\r\nFrom curl.\r\n"
}'
