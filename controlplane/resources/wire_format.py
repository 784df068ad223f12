"""The wire format of Protocol Buffers, for messages that are joined from bytes made once.

A field is a varint key ``number << 3 | wire type``, for bytes followed by a varint length.
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return an unsigned number in base 128, least significant group first."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def delimited(content: bytes) -> bytes:
    """Return *content* behind its length."""
    return varint(len(content)) + content


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field; proto3 omits an empty one unless it is a message."""
    return varint(number << 3 | 2) + delimited(content)
