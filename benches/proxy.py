"""A recording proxy in front of the local AWS: every call is answered a set time after it came in.

The time that the emulator itself takes is part of that, so that a call costs the same whoever answers; one that takes
longer than the set time is recorded as such. It changes nothing in requests and answers, and it listens on the loopback
address only.

    python proxy.py --delay-ms 50 [--tls CERTIFICATE KEY] [--clear NAME] [NAME=]UPSTREAM...

prints one line per upstream, `NAME LISTENS_AT` (without a name, the upstream is its own), then serves until its standard input closes. The line `take` has it
print what was recorded since the last time, as JSON on one line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

FUNCTION = re.compile(r"app/(stasis(?:-[a-z]+)?)")
SERVICE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([a-z0-9-]+)/aws4_request")
# Headers that belong to a connection, not to the message.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "te", "upgrade"}


def operation(request: web.Request, body: bytes) -> str:
    target = request.headers.get("X-Amz-Target")
    if target:
        return target.rsplit(".", 1)[-1]
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode("utf-8", "replace")).get("Action", ["?"])[0]
    return f"{request.method} object"


def record_of(request: web.Request, body: bytes) -> dict[str, str]:
    agent = request.headers.get("User-Agent", "") + " " + request.headers.get("X-Amz-User-Agent", "")
    function = FUNCTION.search(agent)
    service = SERVICE.search(request.headers.get("Authorization", ""))
    return {
        "function": function[1] if function else "",
        "service": service[1] if service else "?",
        "operation": operation(request, body),
        "about": request.path if request.method in ("GET", "PUT", "DELETE") else body.decode("utf-8", "replace"),
    }


def proxied(upstream: str, delay: float, record: list[dict[str, object]], session: aiohttp.ClientSession):
    async def handle(request: web.Request) -> web.StreamResponse:
        begun = time.monotonic()
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("connection", "keep-alive")}
        async with session.request(
            request.method, f"{upstream}{request.raw_path}", headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP]
        upstream_took = time.monotonic() - begun
        await asyncio.sleep(max(0.0, delay - upstream_took))
        record.append(
            {**record_of(request, body), "begin": begun, "end": time.monotonic(), "emulator": upstream_took, "status": answer.status}
        )
        response = web.Response(status=answer.status, body=None if request.method == "HEAD" else content)
        response.headers.clear()
        for name, value in kept:
            response.headers.add(name, value)
        return response

    return handle


async def serve(arguments: argparse.Namespace) -> None:
    record: list[dict[str, object]] = []
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False, trust_env=False) as session:
        runners, tls = [], None
        if arguments.tls:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*arguments.tls)
        for given in arguments.upstream:
            name, upstream = given.split("=", 1) if "=" in given else (given, given)
            application = web.Application(client_max_size=64 * 1024 * 1024)
            application.router.add_route("*", "/{path:.*}", proxied(upstream, arguments.delay_ms / 1000, record, session))
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=None if name == arguments.clear else tls)
            await site.start()
            runners.append(runner)
            port = runner.addresses[0][1]
            print(name, f"{'https' if tls and name != arguments.clear else 'http'}://127.0.0.1:{port}", flush=True)
        print("ready", flush=True)
        # `take` writes what was recorded since the last time.
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip() == "take":
                taken, record[:] = list(record), []
                print(json.dumps(taken), flush=True)
        for runner in runners:
            await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, required=True)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--clear", help="the name that is served without TLS all the same")
    parser.add_argument("upstream", nargs="+")
    asyncio.run(serve(parser.parse_args()))
