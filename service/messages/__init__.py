"""What the service reports to others: recorded events, and their delivery.

Read `events`, which records them in the transaction of what they report; `outbox`, the table of what is due;
`delivery`, which sends it in order and again after a refusal; `lease`, by which one replica does so; `transport` and
`webhook`, which sends; and `outgoing`, which has the trust and the errors of connections that the service makes.
"""
