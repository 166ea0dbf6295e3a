"""X.509 certificates byte by byte (RFC 5280, DER), for what deploy/pki refuses to issue; openssl signs them."""
import datetime
import os
import pathlib
import subprocess
import tempfile


def tlv(tag, *parts):
    body = b''.join(parts)
    n = len(body)
    size = n.to_bytes((n.bit_length() + 7) // 8, 'big') if n > 127 else b''
    return bytes([tag, 0x80 | len(size)]) + size + body if size else bytes([tag, n]) + body


def sequence(*parts):
    return tlv(0x30, *parts)


def oid(text):
    first, second, *rest = map(int, text.split('.'))
    out = bytearray([40 * first + second])
    for n in rest:
        septets = [n & 127]
        while n := n >> 7:
            septets.append(n & 127 | 128)
        out += bytes(reversed(septets))
    return tlv(6, bytes(out))


def name(*common_names):
    """Of common names as bytes, UTF8String whatever they hold."""
    return sequence(*[tlv(0x31, sequence(oid('2.5.4.3'), tlv(0x0c, cn))) for cn in common_names])


def time(when):
    return tlv(0x18, when.strftime('%Y%m%d%H%M%SZ').encode())


ED25519 = sequence(oid('1.3.101.112'))
PURPOSE = {'client': '1.3.6.1.5.5.7.3.2', 'server': '1.3.6.1.5.5.7.3.1'}


def openssl(*args, data=None):
    return subprocess.run(['openssl', *map(str, args)], input=data, check=True, capture_output=True).stdout


def pem(kind, der):
    return f'-----BEGIN {kind}-----\n{openssl("enc", "-base64", data=der).decode()}-----END {kind}-----\n'


def certificate(folder, file, authority_key, issuer, common_names, purpose='client', begin=-1, end=1, names=()):
    """FOLDER/FILE.crt and .key, signed by that key in the name of `issuer` (bytes); valid from `begin` to `end`, days from now.
    Returns the certificate's path. `names`: host names (str), as subjectAltName."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key, crt = folder / f'{file}.key', folder / f'{file}.crt'
    openssl('genpkey', '-algorithm', 'ED25519', '-out', key)
    key.chmod(0o600)
    public = openssl('pkey', '-in', key, '-pubout', '-outform', 'DER')
    now = datetime.datetime.now(datetime.timezone.utc)
    extensions = [sequence(oid('2.5.29.37'), tlv(4, sequence(oid(PURPOSE[purpose]))))]
    if names:
        extensions.append(sequence(oid('2.5.29.17'), tlv(4, sequence(*[tlv(0x82, n.encode()) for n in names]))))
    body = sequence(tlv(0xa0, tlv(2, b'\x02')), tlv(2, b'\x01' + os.urandom(15)), ED25519, name(issuer),
                    sequence(time(now + datetime.timedelta(begin)), time(now + datetime.timedelta(end))),
                    name(*common_names), public, tlv(0xa3, sequence(*extensions)))
    with tempfile.NamedTemporaryFile() as f:
        f.write(body)
        f.flush()
        signature = openssl('pkeyutl', '-sign', '-rawin', '-inkey', authority_key, '-in', f.name)
    crt.write_text(pem('CERTIFICATE', sequence(body, ED25519, tlv(3, b'\0', signature))))
    return crt
