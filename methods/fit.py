"""What happens to a hyperparameter that does not fit a backbone."""

from dataclasses import fields

from methods.base import Method, Unsupported


def is_default(method: Method, field: str) -> bool:
    """Whether a field has the value that it has where nobody sets it."""
    return getattr(method, field) == next(f.default for f in fields(method) if f.name == field)


def require_fit(method: Method, field: str, holds: bool, allowed: str) -> None:
    """Refuses a value that does not fit: what a user typed, the user can mend.

    Args:
        method: of the field.
        field: its name.
        holds: whether the value fits.
        allowed: which values do.

    Raises:
        Unsupported: the default does not fit.
        ValueError: another value does not.

    """
    message = f"{method.name}: {field} must be {allowed}, not {getattr(method, field)!r}"
    if not holds and is_default(method, field):
        raise Unsupported(f"{message}, its default; use {method.name}[{field}=...]")
    if not holds:
        raise ValueError(message)
