"""The edge: the only package that serves HTTP.

Each group of endpoints has a module: `signup`, `login`, `mfa`, `account`, `deletion`, `emails`, `password_reset`
(what users do), `admin_users` and the other `admin_` modules (administration), `tokens` (OAuth 2.0), `verify`
(gateways), `wellknown` (published documents and probes), `account_page` and `docs` (pages). `caller`, `bearers` and
`cookie_session` read what a request presents, `bodies` its fields, and `problems` answers with errors. `edge`,
`cors`, `fair_start` and `wire` surround all of them; `server`, `workers` and `listening` run them. `openapi`
completes the document, with the texts of `descriptions` and the examples of `examples` and `problem_examples`.
"""
