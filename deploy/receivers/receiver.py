"""An application that `pixmed serve --forward` posts to, in Python without packages.

    PIXMED_FORWARD_SECRETS=whsec_... PORT=3000 python3 receiver.py

Keep `verify` and put your own work where `handle` is.
"""
import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = [base64.b64decode(s.removeprefix("whsec_")) for s in os.environ["PIXMED_FORWARD_SECRETS"].split()]


def verify(headers, body):
    """Tell whether a request is from pixmed: signed with one of the secrets, and in
    the last five minutes."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    given = [s.removeprefix("v1,") for s in headers.get("webhook-signature", "").split() if s.startswith("v1,")]
    wanted = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in KEYS]
    return any(hmac.compare_digest(g.encode(), w.encode()) for g in given for w in wanted)


seen = set()  # in your database, in one transaction with what you do


def handle(message):
    """Called once for each notification, those of one transaction in order, and for
    each reminder that a case is due soon."""
    data = message["data"]
    status = data["medStatus"]
    if message["type"] == "infraction.reminder":
        status += f", due {data['dueAt']}"
    print(message["type"], data["transactionId"], data["value"], status, flush=True)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is done, which pixmed does not send again."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))  # as it came
        status, message_id = 204, self.headers.get("webhook-id")
        if not verify(self.headers, body):
            status = 401
        elif message_id not in seen:
            try:
                handle(json.loads(body))
                seen.add(message_id)
            except Exception as error:  # pixmed sends it again
                self.log_error("%r", error)
                status = 500
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, *_):
        """Not every request is worth a line."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Receiver).serve_forever()
