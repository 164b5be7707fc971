"""A model of the protocol, explored exhaustively for small sizes: `python -m tests.model`, `make model`.

Races, property tests and mutants try many orders of events; this tries every one. A *scene* is a small world (one
person, one or two authenticators, pending tokens, sessions, two replicas) and a few requests that anybody may send
at any moment. From it every world is explored that can be reached, breadth first, whatever comes between two steps:

- another request at either replica: a step is one SQL statement, one commit, one Redis command, or one answer. What
  a transaction wrote is seen by nobody before it commits; who wants to write the same row waits, and then takes it
  as it is, while the set of rows of a statement is that of its beginning (PostgreSQL's READ COMMITTED);
- Redis loses any claim or counter, does not answer, or does not answer and has done it; each replica then goes on
  by itself, and forgets what it kept so when it is restarted;
- a request is lost at any point with what it had not committed, or with its answer; whoever sends the same again is
  another request of the scene;
- time passes, while requests go on by the clock that they read when they came.

In every world the sentences of `laws.py` must hold, and from every one in which nobody is on the way the right
person must be in with the next code (`hope.py`). Whatever breaks one is told as a story, the shortest there is. To
show that the laws notice, `variants.py` breaks the protocol on purpose, in one place at a time; a variant that is
not found fails the run.

The plans that requests follow stand in `cast.py`, their steps in `second_turn.py`, `attempts.py`, `account.py` and
`sessions.py`, next to the SQL that they stand for; `tests/test_model.py` holds that SQL to the service's, and
`tests/test_model_and_service.py` asks both the same things, one after the other.

What is smaller here: two failures in a row are free, not five; three in a month, not fifty; a pending token has two
codes, not five; the grace of a refresh token is the time step in which it was replaced; up to six requests and
three time steps a scene.

What is left out, and so proved by other tests or not at all: cryptography, the forms of tokens and what is said to
whom; password budgets, the limits per address and the hashing queue (law 5: password failures slow down, they never
lock out; law 9: hashing is a bounded resource); the budget of recovery codes (the same UPDATE as the factors');
expiry of tokens and sessions, and that a month ends; clocks that differ between replicas; adding and removing one of
several authenticators; the delayed recovery; the enrolment that the operator's policy begins, and a start with a
wider one; the operator's commands but for adding a role; events, /verify and its half a second; SQLite (whose writing
transactions come one after the other: fewer orders than here); a database that loses what it committed. A statement
or a commit whose answer does not come is a request that is lost after it. A loss of Redis is decided when the next
command would notice it: worlds that nobody can tell apart are one, and so are two orders of the same two requests.
"""
