"""A model of the protocol, explored exhaustively for small sizes: `python -m tests.model`, `make model`.

Race tests, property tests and mutants try many orders of events; the model tries every order. A *scene* is a small
configuration (one user, one or two authenticators, pending tokens, sessions, two replicas) and a few requests that
clients may send at any moment. The exploration visits every reachable state (*world*), breadth first. Between any
two steps these events may happen:

- Another request takes a step, at either replica. A step is one SQL statement, one commit, one Redis command, or one
  response. Other transactions do not see what a transaction wrote before it commits. A transaction that writes a
  locked row waits and then uses the row as it is after that commit, but the set of rows of a statement is that of its
  beginning (PostgreSQL's READ COMMITTED).
- Redis loses any claim or counter, does not respond, or executes a command and does not respond. Each replica then
  falls back to its own memory, which a restart clears.
- A request is lost at any point, with its uncommitted writes or with its response. A retry of the client is another
  request of the scene.
- Time passes, while running requests keep the clock value that they read when they began.

In every world the sentences of `laws.py` must hold. From every world without a running request, the user must be able
to log in with the next code (`liveness.py`). A violation is printed as the shortest sequence of steps that leads to
it. To show that the laws detect errors, `variants.py` breaks the protocol on purpose, in one place at a time; a
variant that is not detected fails the run.

Invitations and changes of an e-mail address have a model of their own, with several users, in `links.py` and
`link_scenes.py`; so have the outbox and its deliveries, in `deliveries.py` and `delivery_scenes.py`.

The plans that requests follow are in `cast.py`, their steps in `second_step.py`, `attempts.py`, `account.py`,
`leaving.py` (resets, recoveries, deletions) and `sessions.py`, next to the SQL that they represent.
`tests/system/test_model.py` compares that SQL with the service's, and `tests/system/test_model_and_service.py` sends
the same requests to both, one after the other.

Smaller numbers in the model: two failures in a row are free, not five; three in a month, not fifty; a pending token
has two codes, not five; a recovery and a deletion are due after one time step; the grace period of a refresh token is
the time step in which it was replaced; a scene has up to six requests and three time steps.

The model leaves out the following, which other tests cover or nothing does: cryptography, the formats of tokens, and
the texts of responses; the rate limits of passwords and addresses, and the hashing queue (law 5: password failures
slow down, they never lock out; law 9: hashing is a bounded resource); the budget of recovery codes (the same UPDATE
as the factors'); expiry of tokens and sessions, and the end of a month; clocks that differ between replicas; adding
and removing one of several authenticators; the window of a delayed recovery; the enrolment that the operator's policy
requires, and a start with a wider policy; the operator's commands except adding a role and disabling; messages and
the admin API; events, and /verify with its list of ended sessions; SQLite (whose write transactions run one after the
other: fewer orders than in the model); a database that loses committed data. A
statement or a commit without a response is a request that is lost after it. A loss in Redis is decided when the next
command would notice it, because worlds that nothing can distinguish are one world. For the same reason two orders of
two equal requests count as one."""
