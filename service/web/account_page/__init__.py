"""The page at `/account`, on which users sign up, log in and manage their account.

`static/` has the page: ES modules, a style sheet and the sentences of each language, as they are delivered; there is
no build step and no third-party code. `files` keeps them in memory, `branding` reads the operator's style, and
`routes` serves them with their policy. The page is a client like any other: it has no endpoint of its own.
"""
