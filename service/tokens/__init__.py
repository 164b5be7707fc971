"""Tokens, and the keys that sign them. No module here knows sessions or users: a token is text and claims.

No kind is accepted in place of another: no two share a key, except the two kinds of access token, which differ in
their claims. A token that is derived for one purpose, as for a link in a mail, is a purpose of `links`.

| kind          | form                    | key                                  | module, and its readers       |
|---------------|-------------------------|--------------------------------------|-------------------------------|
| access        | JWT, `at+jwt`           | a published key (RFC 9068)           | `access`, relying services    |
| client access | JWT, `at+jwt`, `scope`  | the same                             | `access`, relying services    |
| pending       | JWT, `mfa+jwt`          | HS256, derived, never published      | `pending` and nothing else    |
| refresh       | `ktr_`, opaque          | HMAC, derived, never published       | `refresh` and nothing else    |
| device        | `ktd_`, opaque          | sealed, derived, never published     | `device` and nothing else     |
| link          | `ktl_`, opaque          | HMAC, derived for each purpose       | `links` and nothing else      |
| client secret | `kts_`, opaque          | none: random, stored as a digest     | `client_secret` alone         |

Read `jwt_codec`, and `access` and `pending`, which use it; `opaque`, and `refresh`, `device`, `links` and
`client_secret`, which use it; then `tokens`, which joins the kinds of a login and its session. `keys` has the signing
keys and the key set. A reader raises `InvalidToken` and reads no store. Its caller reads the rest from the database,
such as whether the token was used.
"""
