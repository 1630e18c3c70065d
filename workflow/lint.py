"""Run `snakemake --lint` and fail on whatever it finds but for the exceptions listed here."""

import re
import subprocess
import sys

#: Beginning of a finding: why it stands.
EXCEPTIONS = {
    "Specify a conda environment or container for each rule": (
        "one locked environment (envs/) runs all stages, and its versions stand in every record; "
        "named per rule, an upgrade of a library would make everything again"
    ),
}


def main() -> int:
    """Print unexpected findings; their number is the exit status."""
    done = subprocess.run(["snakemake", "--lint"], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if "Lints for" not in output and done.returncode:
        print(output)
        return 1
    place, unexpected = "", []
    for line in output.splitlines():
        if line.startswith("Lints for"):
            place = line
        elif (found := re.match(r"    \* (.*)", line)) and not found[1].startswith(
            tuple(EXCEPTIONS)
        ):
            unexpected.append(f"{place} {found[1]}")
    print("\n".join(unexpected) or "snakemake --lint: nothing but the listed exceptions")
    return min(len(unexpected), 1)


if __name__ == "__main__":
    sys.exit(main())
