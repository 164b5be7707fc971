"""What the service sends out: recorded events and their delivery to the operator's system.

Read `events`, which records them in the transaction of what they report; `outbox`, the table of what is due;
`delivery`, which sends it in order and again after a refusal; `lease`, by which one replica does so; `transport`,
what each way to send offers, and `webhook`, the one that there is.
"""
