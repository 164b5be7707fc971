"""What follows an unescaped & of a password in a connection string, where options are expected."""

from collections.abc import Sequence

from hypothesis import strategies as st


def rest_of_a_password(known: Sequence[str]) -> st.SearchStrategy[str]:
    """Up to four options after a password, joined with &: names in `known` or not, and values that begin with Zq."""
    name = st.from_regex(r"Zq[A-Za-z0-9_.%-]{0,12}", fullmatch=True) | st.sampled_from(known)
    value = st.sampled_from(["", "=", "=Zq", "=Zq1=Zq", "%3DZq", "=%5a%71"])
    return st.lists(st.builds("".join, st.tuples(name, value)), max_size=4).map("&".join)
