"""Mutated files: damage of every kind, and attacks that know the format. The same number gives the same file."""

import builtins
import io
import json
import os
import pickle
import pickletools
import random
import re
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

INTERESTING = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1)
_PNG_START = b"\x89PNG\r\n\x1a\n"


def mutated(kind: str, seeds: list[bytes], number: int, canary: str) -> bytes:
    """The mutated file of this number. ``canary`` is the file that appears if any code of ours in it is run."""
    chance = random.Random(f"{kind} {number}")
    # The whole network is large and slow to write: one in ten.
    seed = seeds[-1] if chance.random() < 0.1 else chance.choice(seeds[:-1] or seeds)
    own: dict[str, Callable[[bytes, random.Random, str], bytes]] = {
        "pth": _pth, "safetensors": _safetensors, "png": _png, "h5": _h5,
    }  # fmt: skip
    if chance.random() < 0.5:
        return own[kind](seed, chance, canary)
    return _bytes(seed, chance, canary)


def _bytes(data: bytes, chance: random.Random, _: str) -> bytes:
    """Damage that knows nothing of the format, mostly where the structure is: at both ends."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        at = min(len(out) - 1, chance.randrange(chance.choice((64, 512, 4096, len(out)))))
        if chance.random() < 0.4:
            at = len(out) - 1 - at
        width, other = chance.choice((1, 2, 4, 8, 32, 100)), chance.randrange(len(out))
        number = chance.choice(INTERESTING) % 2 ** (8 * width)
        piece = chance.choice((b"", chance.randbytes(width), bytes(out[other : other + width])))
        what = chance.randrange(8)
        if what < 2:
            out[at] ^= 1 << chance.randrange(8)
        elif what < 4:
            out[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
        elif what < 7:
            out[at : at + chance.choice((0, width))] = piece
        else:
            del out[at:]
    return bytes(out)


class _Attack:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def _attacks(canary: str) -> list[object]:
    return [
        _Attack(os.system, f"touch {canary}"),
        _Attack(builtins.exec, f"open({canary!r}, 'w').close()"),
        _Attack(builtins.eval, f"open({canary!r}, 'w')"),
        _Attack(builtins.open, canary, "w"),
        _Attack(subprocess.Popen, ["touch", canary]),
        _Attack(os.mkdir, canary),
        _Attack(Path(canary).touch),
        _Attack(shutil.copy, __file__, canary),
        _Attack(builtins.getattr, canary, "upper"),
    ]


def _pth(data: bytes, chance: random.Random, canary: str) -> bytes:
    if not data.startswith(b"PK"):
        return _stream(data, chance, canary)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in members if name.endswith("data.pkl"))
    name, code = chance.choice(list(members)), members[program]
    what = chance.randrange(8)
    if what <= 1:
        members[program] = _bytes(code, chance, canary)
    elif what == 2:
        members[program] = _with_attack(code, chance, canary)
    elif what == 3:
        # The claimed number of elements, among others: BININT1 and BININT2 and their values.
        places = [at for at, byte in enumerate(code[:-3]) if byte in b"KMJ"]
        for at in chance.sample(places, min(len(places), 3)):
            value = struct.pack("<i", chance.choice((-1, 0, 1, 5, 2**20, 2**31 - 1)))
            members[program] = members[program][:at] + b"J" + value + members[program][at + 5 :]
    elif what == 4:
        members[name] = chance.choice((b"", members[name][:-1], members[name] * 2, bytes(10_000)))
    elif what == 5:
        del members[name]
    elif what == 6:
        return _zip(members, zipfile.ZIP_DEFLATED, bomb=chance.random() < 0.3)
    else:
        members = {f"../../{name}" if chance.random() < 0.3 else name: value for name, value in members.items()}
        return _zip(members) + _zip(members)
    return _zip(members)


def _with_attack(program: bytes, chance: random.Random, canary: str) -> bytes:
    """An attack instead of the whole program, before it, or in place of a value in it."""
    attack = pickle.dumps(chance.choice(_attacks(canary)), protocol=chance.choice((2, 2, 3, 4)))
    what = chance.randrange(4)
    if what == 0:
        return attack
    if what == 1:
        return attack[:-1] + b"0" + program[2:]
    if what == 2:
        return program[:2] + attack[2:-1] + b"0" + program[2:]
    return program[:-1] + attack[2:]


def _stream(data: bytes, chance: random.Random, canary: str) -> bytes:
    """The older format: an attack in one of its pickles, or a tar archive, which older readers took too."""
    attack = pickle.dumps(chance.choice(_attacks(canary)), protocol=2)
    stream, ends = io.BytesIO(data), [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    which = chance.randrange(5)
    if chance.random() < 0.3:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in ("first", "storages", "tensors", "pickle"):
                info = tarfile.TarInfo(name)
                info.size = len(attack)
                archive.addfile(info, io.BytesIO(attack))
        return b"\x80\x02" + buffer.getvalue()[2:]
    if chance.random() < 0.5:
        return data[: ends[which]] + attack + data[ends[which + 1] :]
    changed = _bytes(data[ends[which] : ends[which + 1]], chance, canary)
    return data[: ends[which]] + changed + data[ends[which + 1] :]


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED, *, bomb: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if bomb:
            archive.writestr("archive/data/99", bytes(64 * 2**20))
    return buffer.getvalue()


def _safetensors(data: bytes, chance: random.Random, canary: str) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = chance.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    numbers = [chance.choice((*INTERESTING, *entry["data_offsets"])) for _ in range(chance.randrange(5))]
    dtypes = ("F64", "I8", "F4", "", "BOOL", "F8_E4M3")
    nonsense = (None, "x", 5, -1, 1.5, [], {}, [[]], [None], [1.0, 2.0], [True], [[[[]]]], {"a": 5}, {"a": {"b": "c"}})
    what = chance.randrange(7)
    if what == 0:
        entry[chance.choice(("shape", "data_offsets"))] = numbers
    elif what == 1:
        entry["dtype"] = chance.choice(dtypes)
    elif what == 2:
        entry[chance.choice(list(entry))] = chance.choice(nonsense)
    elif what == 3:
        header[chance.choice((name, "__metadata__", "extra"))] = chance.choice(
            (*nonsense, dict(entry), {"a": "x" * 100_000})
        )
    raw = json.dumps(header)
    if what == 4:
        raw = raw[:-1] + f', "{name}": ' + json.dumps(entry) + "}"
    elif what == 5:
        deep = chance.choice((100, 5000, 200_000))
        raw = "[" * deep + "]" * deep
    elif what == 6:
        raw = raw.replace("0", chance.choice(("0" * 50, "9" * 6000, "-0", "1e999", "NaN", "Infinity", "0x1")), 1)
    return len(raw).to_bytes(8, "little") + raw.encode() + body


def _png(data: bytes, chance: random.Random, canary: str) -> bytes:
    """Chunks changed and closed again by a right checksum, so that the reader believes them."""
    chunks = _chunks(data)
    at = chance.randrange(len(chunks))
    what = chance.randrange(7)
    if what == 0:
        chunks[at] = chunks[at][0], _bytes(chunks[at][1], chance, canary)
    elif what == 1:
        name, head = chunks[0]
        width, height = (chance.choice((0, 1, 7, 65535, 2**16, 2**31 - 1, 2**32 - 1)) for _ in range(2))
        chunks[0] = name, struct.pack(">II", width, height) + head[8:]
    elif what == 2:
        name, head = chunks[0]
        chunks[0] = name, head[:8] + bytes(chance.choice((0, 1, 2, 3, 4, 6, 8, 16)) for _ in range(len(head) - 8))
    elif what == 3:
        bomb = zlib.compress(bytes(chance.choice((10, 80)) * 2**20))
        kind = chance.choice((b"zTXt", b"iTXt", b"iCCP", b"IDAT"))
        text = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0", b"IDAT": b""}[kind]
        chunks.insert(1, (kind, text + bomb))
    elif what == 4:
        del chunks[at]
    elif what == 5:
        chunks.insert(at, chance.choice(chunks))
    else:
        chunks = [
            (name, _bytes(content, chance, canary) if name in (b"tEXt", b"iTXt", b"zTXt") else content)
            for name, content in chunks
        ]
    return _PNG_START + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _h5(data: bytes, chance: random.Random, canary: str) -> bytes:
    """Lies about texts of variable length: how long they are, in which heap and where in it they lie."""
    heaps = _places(data, b"GCOL")
    if not heaps:
        return _bytes(data, chance, canary)
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        heap = chance.choice(heaps)
        # A text is its length, the heap's address and its number there; a heap its own size, then texts with theirs.
        pointers = _places(data, heap.to_bytes(8, "little"))
        places = [(at, 8) for at in pointers] + [(at - 4, 4) for at in pointers] + [(at + 8, 4) for at in pointers]
        at, width = chance.choice([*places, (heap + 8, 8), (heap + 16, 2), (heap + 24, 8)])
        out[at : at + width] = (chance.choice(INTERESTING) % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(out)


def _places(data: bytes, piece: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(piece), data)]
