"""Which agent works on a stage, and why."""

from trainable.agent.base import Agent
from trainable.agent.playbook import PlaybookAgent
from trainable.errors import InputError, UnavailableError, nearest

PLAYBOOK_REASON = "The built-in playbook needs no key and no network."


def choose_agent(wanted: "Agent | str") -> tuple[Agent, str]:
    """Return the agent called `wanted` (or `wanted` itself) and a sentence on why it is used.

    Raises:
        InputError: There is no agent of that name.
        UnavailableError: There is one, but not here.
    """
    match wanted:
        case "auto" | "playbook":
            return PlaybookAgent(), PLAYBOOK_REASON
        case "claude":
            raise UnavailableError(
                "This version has no Claude agent.", remedy='Use agent="playbook".'
            )
        case str():
            hint = nearest(wanted, ["auto", "playbook", "claude"])
            raise InputError(
                f"There is no agent {wanted!r}.",
                remedy=f'{hint}Use "auto", "playbook", or an object that has a work() method.',
            )
        case _:
            return wanted, "The agent was passed in."
