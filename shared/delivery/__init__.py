"""What becomes of a mail after an attempt: verdict, schedule, made-up replies, and what is published. Pure."""
