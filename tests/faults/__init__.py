"""What happens when parts fail, on real servers with real processes: `make faults`, or `python -m tests.faults`.

Two replicas of Keyturn on one PostgreSQL and one Redis serve a crowd; every request and every answer is recorded;
then something breaks (`faults`), and later works again. From the history alone the checker (`checker`) proves:

- no code was accepted twice, and the steps of a factor that were accepted one after the other increased;
- no acknowledged signup, enrolment, disabling, logout or revocation was lost;
- the password alone gave nobody tokens who has a second factor;
- a refresh token had one successor;
- no answer was meant for somebody else;
- every answer was a documented one, and in time.

A request that was cut off, or answered 503, may have happened or not: both are possible from there on, and the next
answers may tell which, but never that both are true.

`serve` is a replica whose clock the suite can move; `world` has the servers, `history` the record, `crowd` the load,
`guesses` the attempts to use a fault, `table` writes `docs/faults.md`.
"""
