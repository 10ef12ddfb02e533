"""Runs the playbook's scripts as a sandbox would: filled parameters, a fresh fork for each one.

One warm process, started on first use, imports the heavy libraries and then only forks. It ends
when its standard input closes, so it cannot outlive the tests.
"""

import atexit
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("eda", "prep", "train")
_WARM = ("pandas", "pyarrow.parquet", "scipy.stats", "sklearn.pipeline", "matplotlib.pyplot")


class ScriptFailedError(Exception):
    """A script ended with another exit code than 0."""

    def __init__(self, script: str, code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{script} ended with exit code {code}:\n{stderr or stdout}")
        self.script = script
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


def make_dataset(frame: "pd.DataFrame", root: Path, source: dict[str, Any] | None = None) -> Path:
    """Write `frame` as a registered dataset to `root/dataset` and make the stage folders.

    Args:
        frame: The raw table; its index is dropped, since a row's position is its id.
        root: An empty folder, usually `tmp_path`.
        source: What `dataset.json` shall say about how the files were read.
    """
    folder = root / "dataset"
    for name in ("dataset", *STAGES):
        (root / name).mkdir(parents=True, exist_ok=True)
    plain = frame.reset_index(drop=True)
    plain.attrs = {}
    plain.to_parquet(folder / "raw.parquet")
    file = {"name": "data.csv", "format": "csv", "encoding": "utf-8", "delimiter": ","}
    default = {"files": [file], "notes": []}
    (folder / "dataset.json").write_text(json.dumps(default if source is None else source))
    return folder


def run_stage(stage: str, root: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run all scripts of a stage in order and return the values they printed as `next:`.

    What the scripts printed is kept in `root/logs/{stage}.out` and `.err`.

    Args:
        stage: `eda`, `prep` or `train`.
        root: The folder that `make_dataset` filled.
        params: Values for the parameter block; the names are lower case.

    Raises:
        ScriptFailedError: A script failed; later ones did not run.
    """
    # The warm process runs this file too, and in it `trainable` is the sandbox's one module.
    from trainable.agent.playbook import fill, read_next, script, steps
    from trainable.stages import Stage

    printed: dict[str, Any] = {}
    for number, (name, _sentence) in enumerate(steps(Stage(stage)), start=1):
        saved = root / stage / "scripts" / f"step_{number:02d}_{name}.py"
        saved.parent.mkdir(parents=True, exist_ok=True)
        saved.write_text(fill(script(Stage(stage), name), {**params, **printed}), "utf-8")
        printed.update(read_next(run_script(saved, root / stage, root / "dataset")))
    return printed


def run_check(stage: str, root: Path) -> dict[str, list[dict[str, Any]]]:
    """Run the validator of a stage in its folder and return the findings it printed last."""
    script = REPOSITORY / "trainable" / "proof" / "checks" / f"{stage}.py"
    stdout = run_script(script, root / stage, root / "dataset")
    last = stdout.rstrip("\n").rsplit("\n", 1)[-1]
    return json.loads(last.removeprefix("findings: "))


def run_script(script: Path, folder: Path, dataset: Path) -> str:
    """Run one script with `folder` as the working directory; return its standard output."""
    logs = folder.parent / "logs"
    logs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        order = [str(part) for part in (script, folder, dataset, out, err)]
        code = _warm_process().run(order)
        stdout, stderr = out.read_text("utf-8"), err.read_text("utf-8")
    for suffix, text in ((".out", stdout), (".err", stderr)):
        with (logs / f"{folder.name}{suffix}").open("a", encoding="utf-8") as log:
            log.write(text)
    if code:
        raise ScriptFailedError(script.name, code, stdout, stderr)
    return stdout


class _WarmProcess:
    def __init__(self) -> None:
        self._package = tempfile.mkdtemp()
        shutil.copy(REPOSITORY / "trainable" / "sdk.py", Path(self._package) / "trainable.py")
        threads = str(os.cpu_count() or 1)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": self._package,
            "OMP_WAIT_POLICY": "PASSIVE",
            "MPLBACKEND": "Agg",
            **{f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")},
        }
        environment.pop("TRAINABLE_RECORDS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        atexit.register(self.close)

    def run(self, order: list[str]) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        return int(stdout.readline())

    def close(self) -> None:
        with self._process:
            pass
        shutil.rmtree(self._package, ignore_errors=True)


@cache
def _warm_process() -> _WarmProcess:
    return _WarmProcess()


def _serve() -> None:
    for name in _WARM:
        importlib.import_module(name)
    for line in sys.stdin:
        script, folder, dataset, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(script, folder, dataset, out, err)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(script: str, folder: str, dataset: str, out: str, err: str) -> None:
    for number, target in ((0, os.devnull), (1, out), (2, err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(target, flags), number)
    sys.stdin.close()
    os.chdir(folder)
    os.environ["TRAINABLE_DATASET"] = dataset
    sys.dont_write_bytecode = True  # as in the sandbox
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = _exit_code(stop.code)
    except BaseException as error:  # noqa: BLE001 (what a script raises is its result)
        traceback.print_exception(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    print(value, file=sys.stderr)
    return 1


if __name__ == "__main__":
    _serve()
