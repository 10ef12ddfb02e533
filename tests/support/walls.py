"""Runs a step of model-written code, and prints as JSON how it was walled in or why it was not."""

import asyncio
import json
import tempfile
from pathlib import Path

from trainable.errors import IsolationUnavailable
from trainable.sandbox.base import BoxSpec
from trainable.sandbox.local import LocalSandbox


async def main(folder: Path) -> dict[str, object]:
    printed: list[object] = []

    async def push(item: object) -> None:
        printed.append(item)

    try:
        async with LocalSandbox(preload=()).open(BoxSpec(workdir=folder)) as box:
            code = "print('ran')"
            result = await box.run_code(code, script=folder / "a.py", timeout=30, push=push)
            level, missing = box.info.isolation, box.info.missing
            return {"level": level, "missing": missing, "exit_code": result.exit_code}
    except IsolationUnavailable as error:
        return {"text": error.text, "remedy": error.remedy}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(main(Path(name)))))
