"""Which sandbox runs the code, and why."""

from pathlib import Path

from trainable.errors import InputError, UnavailableError, nearest
from trainable.sandbox.base import Sandbox
from trainable.sandbox.isolation import check_name
from trainable.sandbox.local import LocalSandbox


def choose_sandbox(
    wanted: "Sandbox | str", *, cache: Path, isolation: str | None = None, gpu: str | None = None
) -> tuple[Sandbox, str]:
    """Return the sandbox called `wanted` (or `wanted` itself) and a sentence on why it is used.

    Raises:
        InputError: There is no such sandbox, or it cannot do what is asked.
        UnavailableError: There is one, but not here.
    """
    check_name(isolation)
    match wanted:
        case "auto" | "local":
            if gpu is not None:
                raise InputError(
                    f"The local sandbox has no GPU to give (gpu={gpu!r}).",
                    remedy="Leave gpu out.",
                )
            return LocalSandbox(isolation=isolation, cache=cache), "Code runs on this machine."
        case "modal":
            raise UnavailableError(
                "This version has no Modal sandbox.", remedy='Use sandbox="local".'
            )
        case str():
            hint = nearest(wanted, ["auto", "local", "modal"])
            raise InputError(
                f"There is no sandbox {wanted!r}.",
                remedy=f'{hint}Use "auto", "local", or an object that has an open() method.',
            )
        case _:
            return wanted, "The sandbox was passed in."
