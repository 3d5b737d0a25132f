"""Whole numbers as few bytes: LEB128, seven bits a byte, lowest first.

Reads bytes that may be anything.
"""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A number from 0 on as bytes."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number below 2**63 and the place after it."""
    number = 0
    for shift in range(0, 63, 7):
        byte, place = read_byte(content, place)
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number is too long")


def read_varints(content: bytes, place: int, count: int) -> tuple[list[int], int]:
    """So many numbers and the place after them."""
    numbers = []
    for _ in range(count):
        number, place = read_varint(content, place)
        numbers.append(number)
    return numbers, place


def read_byte(content: bytes, place: int) -> tuple[int, int]:
    """A byte, 0 to 255, and the place after it."""
    if place >= len(content):
        raise ValueError("a record ends within a number")
    return content[place], place + 1
