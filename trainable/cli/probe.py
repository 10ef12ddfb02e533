"""A step for the sandbox: it prints, logs, and imports what the playbook needs."""

import importlib
import json
import sys

from trainable import log

PACKAGES = (
    *("numpy", "pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "matplotlib", "optuna"),
    *("imblearn", "shap", "joblib"),
)
BROKEN = (ImportError, OSError, AttributeError, TypeError, ValueError, RuntimeError)
"""What an import raises when a package is missing, or lacks a library of the system."""


def main() -> None:
    """Print one JSON object: the version of each package, or why it cannot be imported."""
    versions: dict[str, str] = {}
    broken: dict[str, str] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.import_module(name).__version__
        except BROKEN as error:
            broken[name] = str(error)
    log(step=1, metrics={"packages": len(versions)})
    sys.stdout.write(json.dumps({"versions": versions, "broken": broken}) + "\n")


if __name__ == "__main__":
    main()
