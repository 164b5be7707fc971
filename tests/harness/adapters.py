"""What FastAPI derives from the annotations of the routes, shared by the services of one test process."""

from typing import Any

from fastapi._compat import v2

_made: dict[tuple[object, ...], tuple[list[object], Any]] = {}
"""Adapters by the identity of what each is made of, and these objects themselves: so no identity is used again."""

_make_adapter = v2.ModelField.__post_init__


def share_adapters() -> None:
    """Let `create_app` make each pydantic adapter once in this process: they take half of its time.

    Every test opens a service of its own, and the models of its routes are the same objects each time. Only a field
    that is made of the very same objects gets the adapter of another. The first service of a process makes all of
    them, as do the servers that tests start.
    """
    v2.ModelField.__post_init__ = _share_adapter  # type: ignore[assignment, method-assign]


def _share_adapter(field: v2.ModelField) -> None:
    parts = v2.asdict(field.field_info)
    metadata, attributes = parts["metadata"], parts["attributes"]
    made_of = [parts["annotation"], *metadata, *attributes.values(), field.config]
    if any(isinstance(part, list) for part in made_of):  # a route makes a new list each time
        _make_adapter(field)
        return
    key = (len(metadata), *attributes, *map(id, made_of))
    if key not in _made:
        _make_adapter(field)
        _made[key] = (made_of, field._type_adapter)
    field._type_adapter = _made[key][1]
