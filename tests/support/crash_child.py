"""Runs a stage of many short steps and acknowledges each event it gets; made to be killed."""

import sys

import trainable
from trainable.sandbox.local import LocalSandbox
from trainable.testing.agent import ScriptedAgent

STEP = "from trainable import log\nfor i in range(20): print(i); log(i, {'x': i})\nopen('f', 'w')"


def main() -> None:
    session_id = sys.argv[1]
    agent = ScriptedAgent([STEP] * 30)
    session = trainable.Session.load(session_id, sandbox=LocalSandbox(preload=()))
    for event in session.run("eda", agent=agent):
        print(event.seq, flush=True)


if __name__ == "__main__":
    main()
