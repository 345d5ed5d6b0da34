"""Tar archives byte by byte, so that they can be as wrong as a test wants."""


def header(name, kind=b"0", size=0, mode=0o644, uid=0, gid=0, mtime=1_700_000_000, link="", major=0, minor=0, magic=b"ustar\x0000"):
    """Numbers may be bytes, to be put there as they are."""
    def octal(value, width):
        return value.ljust(width, b"\0") if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    def text(value, width):
        return (value if isinstance(value, bytes) else value.encode()).ljust(width, b"\0")[:width]

    block = bytearray(512)
    block[0:100] = text(name, 100)
    block[100:108], block[108:116], block[116:124] = octal(mode, 8), octal(uid, 8), octal(gid, 8)
    block[124:136], block[136:148] = octal(size, 12), octal(mtime, 12)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = text(link, 100)
    block[257:265] = magic
    block[329:337], block[337:345] = octal(major, 8), octal(minor, 8)
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def base256(value, width):
    """A number as GNU tar writes those that do not fit, or are negative."""
    return (value % (1 << (8 * width)) | 1 << (8 * width - 1)).to_bytes(width, "big")


def record(key, value):
    """One of a pax header: its length counts itself."""
    body = b" " + (key if isinstance(key, bytes) else key.encode()) + b"=" + (value if isinstance(value, bytes) else value.encode()) + b"\n"
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return str(length).encode() + body


END = b"\0" * 1024


class Tar:
    def __init__(self):
        self._parts = []

    def add(self, name, kind=b"0", data=b"", pax=(), **fields):
        """`pax`: (key, value) pairs; the same key may come twice."""
        data = data.encode() if isinstance(data, str) else data
        if pax:
            records = b"".join(record(key, value) for key, value in pax)
            self.raw(header("PaxHeader", b"x", len(records)) + padded(records))
        fields.setdefault("size", len(data))
        return self.raw(header(name, kind, **fields) + padded(data))

    def file(self, name, data="harm", **fields):
        return self.add(name, b"0", data, **fields)

    def dir(self, name, **fields):
        return self.add(name, b"5", **{"mode": 0o755, **fields})

    def symlink(self, name, target, **fields):
        return self.add(name, b"2", link=target, **fields)

    def hardlink(self, name, target, **fields):
        return self.add(name, b"1", link=target, **fields)

    def raw(self, data):
        self._parts.append(data)
        return self

    def done(self, end=END):
        return b"".join(self._parts) + end
