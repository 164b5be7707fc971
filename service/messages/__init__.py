"""What the service reports to others: recorded events, and their delivery.

Read `events`, which records them in the transaction of what they report; `webhook`, which delivers them; and
`outgoing`, which has the trust and the errors of connections that the service makes.
"""
