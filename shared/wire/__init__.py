"""The JSON messages: types and codec. The only place that knows MailerQ's property names and the RFCs' words for them."""
