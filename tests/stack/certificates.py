"""A certificate authority that lives as long as the stack, and one certificate for 127.0.0.1 and localhost."""

import os
import subprocess

from server import StackError

NAMES = "subjectAltName=DNS:localhost,DNS:mail.postroom.test,IP:127.0.0.1"


def make(directory):
    """Returns the paths of the authority's certificate, the server's certificate and the server's key."""
    os.makedirs(directory)
    ca, ca_key = os.path.join(directory, "ca.pem"), os.path.join(directory, "ca.key")
    cert, key = os.path.join(directory, "server.pem"), os.path.join(directory, "server.key")
    request, extensions = os.path.join(directory, "server.csr"), os.path.join(directory, "server.ext")
    with open(extensions, "w", encoding="utf-8") as out:
        out.write(f"{NAMES}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "30",
             "-subj", "/CN=Postroom test authority",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
             "-out", cert, "-days", "30", "-extfile", extensions)
    return ca, cert, key


def _openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"openssl {arguments[0]} failed:\n{done.stderr}")
