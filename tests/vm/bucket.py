"""A bucket for the proof in a virtual machine: it serves the collector and a manifest, and takes parts and objects,
over TLS of a private authority (without it on the loopback interface alone). It fails on demand, and keeps what it received in a folder. It knows no signature:
that a presigned address allows nothing else is S3's own promise.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PART = re.compile(r"partNumber=(\d+)")


def authority(folder: Path, name: str) -> None:
    """Makes an authority and a certificate of its for the address under which a guest sees this machine."""
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: E731
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem", "-days", "2", "-subj", f"/CN={name}")
    run("openssl", "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=bucket")
    (folder / f"{name}.ext").write_text("subjectAltName=IP:10.0.2.2\nbasicConstraints=CA:FALSE\n")
    sign = ("-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
    run("openssl", "x509", "-req", "-in", f"{name}.csr", *sign, "-out", f"{name}.pem")


class Bucket:
    """`faults` maps the number of a part to the statuses with which its first tries are answered; 0 hangs up."""

    def __init__(self, folder: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        self.folder = folder
        self.served: dict[str, bytes] = {}
        self.faults: dict[int, list[int]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, body: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                bucket.requests.append(("GET", self.path, dict(self.headers)))
                body = bucket.served.get(self.path.split("?")[0])
                self.reply(403 if body is None else 200, body or b"")

            def do_PUT(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                bucket.requests.append(("PUT", self.path, headers))
                body = self.rfile.read(int(headers["content-length"]))
                number = PART.search(self.path)
                faults = bucket.faults.get(int(number.group(1)), []) if number else []
                if faults:
                    status = faults.pop(0) if len(faults) > 1 or faults[0] != 403 else 403
                    if status == 0:
                        self.close_connection = True
                        return
                    self.reply(status, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
                    return
                if headers.get("content-md5") != base64.b64encode(hashlib.md5(body).digest()).decode():
                    self.reply(400)
                    return
                name = f"part-{int(number.group(1)):05}" if number else self.path.split("?")[0].rsplit("/", 1)[-1]
                (bucket.folder / name).write_bytes(body)
                self.reply(200)

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A guest that does not trust this server, or is switched off, is no error of the server's."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            # A guest of QEMU sees the host's loopback interface under this address.
            self.address = f"https://10.0.2.2:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def manifest(self, memory_mib: int, part_mib: int = 8, **others: object) -> str:
        """Puts a manifest there, and gives its address. `others` are members of it beside the ordinary ones."""
        names = {
            "started": "started.json", "state": "state.jsonl", "btf": "vmlinux.btf", "kallsyms": "kallsyms.txt",
            "iomem": "iomem.txt", "version": "version.txt", "vmcoreinfo": "vmcoreinfo.txt", "files": "files.jsonl",
            "summary": "summary.json",
        }  # fmt: skip
        parts = memory_mib // part_mib + 8
        manifest = {
            "schema": 1,
            "number": 1,
            "validSeconds": 3600,
            "partBytes": part_mib << 20,
            "uploadsAtOnce": 1,
            "parts": {
                "first": 1,
                "template": f"{self.address}/image?partNumber={{part}}&uploadId=u&X-Amz-Signature={{signature}}",
                "signatures": [f"{number:064x}" for number in range(1, parts + 1)],
            },
            "objects": {name: f"{self.address}/{file}?X-Amz-Signature=0" for name, file in names.items()},
            **others,
        }
        self.served["/manifest.json"] = json.dumps(manifest).encode()
        return f"{self.address}/manifest.json?X-Amz-Signature=0"

    def image(self) -> bytes:
        """The parts that arrived, put together, up to the first that did not."""
        whole, number = b"", 1
        while (part := self.folder / f"part-{number:05}").exists():
            whole += part.read_bytes()
            number += 1
        return whole

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
