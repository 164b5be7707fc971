"""What the service sends out: recorded events to the operator's system, and messages to users.

Read `events`, which records events in the transaction of what they report, with `feed`, which lists them; `kinds`,
the messages that follow from them; `outbox`, the table of what is due; `delivery`, which sends it in order and again
after a refusal; `settling`, which finds the events that `delivery` and `feed` can read without skipping one; `lease`,
by which one replica at a time sends; and `transport`, what each way to send offers: `webhook` and `mail`, with
`mail_smtp` and `mail_files`. `contents` reads what a message says, `templates` renders it, and `reports` writes
the lines of the log about messages.
"""
