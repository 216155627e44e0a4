"""What an event was once called or looked like, and how it is read today.

What is stored is never changed. A field that is added with a default needs nothing here; an event whose shape or name
changes gets a class and a kind of its own, and its old kind goes from `events.KINDS` to this table. So code that works
on events knows the newest shapes only, and a program that is older than the change keeps the new kind as it is.
"""

from collections.abc import Callable
from typing import Any, Final

from statemachine.events import Event

UPCASTS: Final[dict[str, Callable[[dict[str, Any]], Event]]] = {}
"""A kind that is written no more → the event of today that its data mean. So far every change has added something."""
