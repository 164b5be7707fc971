"""The fault suite: break parts of a system of real servers and processes. `make faults`, `python -m tests.faults`.

Two replicas of Keyturn on one PostgreSQL and one Redis serve a load of users; the suite records every request and
every answer. A fault breaks something (`faults`) and repairs it later. From the history alone the checker (`checker`)
proves:

- no code was accepted twice, and consecutive accepted time steps of a factor increased;
- no acknowledged signup, enrolment, disabling, logout, revocation, reset or deletion was lost;
- the password alone yielded no tokens for a user with a second factor;
- a refresh token had one successor;
- a link was used once, and no session and no former password survived an acknowledged reset;
- a user who was disabled or being deleted had no access;
- each acknowledged request for a link caused a message;
- no answer was meant for another request or user;
- every answer was documented and in time.

A request that was cut off or answered 503 may or may not have taken effect. Both are possible from then on, and later
answers may decide which, but they must not contradict each other.

`serve` is a replica whose clock the suite can move; `world` has the servers, `history` the record, `load` the users,
`owners` those with an e-mail address (they reset passwords, delete accounts), `mailbox` their messages, `probes` one
request to each endpoint, `guesses` the attempts to exploit a fault; `table` writes `docs/faults.md`.
"""
