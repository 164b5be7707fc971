"""Lists of leaked passwords (`KEYTURN_BREACHED_PASSWORDS`), with which a new password is compared.

Read `check`, what happens when a password is set; `source`, what each kind of list offers; `list_file`, a file that
`keyturn passwords build-list` makes, with `list_building`; and `range_service`, an HTTP service that is queried.
"""
