"""The commands: package, deploy, uninstall. `python -m installer deploy --help` says what each takes.

A parameter of infra/template.yaml is given as NAME=VALUE, or as a variable of the environment of just that name, as make
hands on what stands on its command line.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from . import InstallError, package
from .install import Install, asker, next_steps
from .uninstall import uninstall

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="installer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    packs = commands.add_parser("package", help="makes the folder that a deployment needs")
    packs.add_argument("--binaries", type=pathlib.Path, required=True, help="the folder of the functions' release binaries for arm64")
    packs.add_argument("--collectors", type=pathlib.Path, required=True, help="the folder of both collectors")
    packs.add_argument("--folder", type=pathlib.Path, default=ROOT / "dist")
    packs.add_argument("--lambda-folder", type=pathlib.Path, help="where `sam` looks for each function's bootstrap")
    packs.add_argument("--any-machine", action="store_true", help="takes binaries for any machine: for tests")

    deploys = commands.add_parser("deploy", help="deploys a package to the account and Region of the credentials")
    deploys.add_argument("--folder", type=pathlib.Path, default=ROOT / "dist")
    deploys.add_argument("--answers", type=pathlib.Path, default=ROOT / ".deploy" / "answers.json", help="where answers are kept")
    deploys.add_argument("--yes", action="store_true", help="asks nothing")
    deploys.add_argument("--named", default="", help="names of the environment's variables that must be parameters")
    deploys.add_argument("parameters", nargs="*", metavar="NAME=VALUE")

    removes = commands.add_parser("uninstall", help="removes Stasis, and says what stays")
    removes.add_argument("--account", help="the account's id, in place of the question")
    removes.add_argument("--open-cases", choices=["refuse", "stay"], default="refuse")

    arguments = parser.parse_args()
    try:
        if arguments.command == "package":
            sizes = package.package(
                ROOT / "infra",
                arguments.binaries,
                arguments.collectors,
                arguments.folder,
                arguments.lambda_folder,
                arguments.any_machine,
            )
            for name, size in sizes.items():
                print(f"{size:>11,}  {name}")
        elif arguments.command == "deploy":
            install = Install(arguments.folder, arguments.answers)
            given = {name: os.environ[name] for name in install.hub["Parameters"] if name in os.environ}
            # A parameter that is misspelt on make's command line would be passed over in silence.
            given |= {name: os.environ.get(name, "") for name in arguments.named.split()}
            for text in arguments.parameters:
                name, equals, value = text.partition("=")
                if not equals:
                    raise InstallError(f"{text!r} is no NAME=VALUE")
                given[name] = value
            outputs = install.run(given, None if arguments.yes else asker())
            print(next_steps(outputs, install.email))
        else:
            uninstall(arguments.open_cases == "stay", asker(), arguments.account)
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
