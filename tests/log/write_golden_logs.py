"""Write the logs of ``tests/logs`` anew: ``python -m tests.log.write_golden_logs``, from the project's folder.

Only while the format is 0, or for workflows that are new: from format 1 on, what is there stays as it is for ever.
"""

from pathlib import Path

import anyio

from skuld_async.log.entry import FORMAT

from . import golden

LOGS = Path(__file__).parents[1] / "logs" / f"format-{FORMAT}"


def main() -> None:
    """Write one JSON and one MessagePack document for each workflow."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for name, log in anyio.run(golden.written).items():
        (LOGS / f"{name}.json").write_bytes(log.to_json())
        (LOGS / f"{name}.msgpack").write_bytes(log.to_msgpack())


if __name__ == "__main__":
    main()
