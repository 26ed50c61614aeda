"""The other side of the codec oracle: the same messages through the PyPI package kio.

Reads JSON lines {name, kind, api, version, hex, value} from standard input. Each message is decoded with kio, its
value compared, and encoded again, where the bytes must be equal. Then as many messages with random values of kio's
own making are written to standard output in the same form. A summary goes to standard error; what kio does not know
is counted and named there. The exit status is 1 if anything differs.
"""

import base64
import dataclasses
import datetime
import functools
import io
import json
import random
import sys
import typing
import uuid

from kio.index import load_entity_schema, load_request_schema, load_response_schema
from kio.index import KioIndexError
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

DATA = {
    "RequestHeader": ("request_header", EntityType.header),
    "ResponseHeader": ("response_header", EntityType.header),
    "Subscription": ("consumer_protocol_subscription", EntityType.data),
    "Assignment": ("consumer_protocol_assignment", EntityType.data),
}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MILLISECOND = datetime.timedelta(milliseconds=1)
CODES = [int(code) for code in ErrorCode]
RANGES = {"int8": (-(2**7), 2**7), "int16": (-(2**15), 2**15), "int32": (-(2**31), 2**31), "int64": (-(2**63), 2**63)}
RANGES["uint16"] = (0, 2**16)


@functools.cache
def schema(kind, name, api, version):
    """The class of a message, or None where kio has none."""
    try:
        if kind == "request":
            return load_request_schema(api, version)
        if kind == "response":
            return load_response_schema(api, version)
        if name in DATA:
            return load_entity_schema(DATA[name][0], version, DATA[name][1])
    except KioIndexError:
        pass
    return None


def our_name(field):
    """kio drops the unit from the names of times."""
    if field.metadata.get("kafka_type", "").startswith(("timedelta", "datetime")):
        return field.name + "_ms"
    return field.name


def optional(hint):
    """A type without its None, and whether it had one."""
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        return next(a for a in arguments if a is not type(None)), True
    return hint, False


@functools.cache
def fields_of(cls):
    """(field, type, is array, is nullable) of all fields."""
    hints = typing.get_type_hints(cls)
    result = []
    for field in dataclasses.fields(cls):
        hint, nullable = optional(hints[field.name])
        array = typing.get_origin(hint) is tuple
        if array:
            hint = optional(typing.get_args(hint)[0])[0]
        result.append((field, hint, array, nullable))
    return result


def show_one(kafka_type, value):
    if kafka_type == "uuid":
        raw = value.bytes if value is not None else bytes(16)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")
    if kafka_type == "datetime_i64":
        return -1 if value is None else (value - EPOCH) // MILLISECOND
    if value is None:
        return None
    if dataclasses.is_dataclass(value):
        return show(value)
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return value // MILLISECOND
    if kafka_type in ("bytes", "records"):
        return bytes(value).hex()
    if kafka_type == "bool":
        return bool(value)
    return str(value) if kafka_type == "string" else int(value)


def show(entity):
    """An entity in the form that the Rust side compares."""
    result = {}
    for field, _, array, _ in fields_of(type(entity)):
        value = getattr(entity, field.name)
        kafka_type = field.metadata.get("kafka_type", "")
        if array:
            result[our_name(field)] = None if value is None else [show_one(kafka_type, item) for item in value]
        else:
            result[our_name(field)] = show_one(kafka_type, value)
    return result


def number(kafka_type):
    low, high = RANGES[kafka_type]
    pick = random.randrange(6)
    if pick < 2:
        return low if pick == 0 else high - 1
    return random.randrange(low, high) if pick == 2 else min(random.randrange(1000), high - 1)


def random_one(kafka_type, hint):
    if dataclasses.is_dataclass(hint):
        return random_entity(hint)
    if kafka_type in RANGES:
        return number(kafka_type)
    if kafka_type == "string":
        return "".join(random.choice("abc-_.7éЖ日𝄞 ") for _ in range(random.choice((0, 1, 5, 130))))
    if kafka_type in ("bytes", "records"):
        return random.randbytes(random.choice((0, 1, 16, 511, 512, 513, 3000)))
    if kafka_type == "bool":
        return random.random() < 0.5
    if kafka_type == "uuid":
        return uuid.uuid4() if random.random() < 0.8 else None
    if kafka_type == "error_code":
        return ErrorCode(random.choice(CODES))
    if kafka_type.startswith("timedelta"):
        return datetime.timedelta(milliseconds=number("int32"))
    if kafka_type == "datetime_i64":
        return EPOCH + datetime.timedelta(milliseconds=random.randrange(4_000_000_000_000))
    raise TypeError(kafka_type)


def random_entity(cls):
    values = {}
    for field, hint, array, nullable in fields_of(cls):
        kafka_type = field.metadata.get("kafka_type", "")
        if nullable and kafka_type != "uuid" and random.random() < 0.25:
            values[field.name] = None
        elif array:
            values[field.name] = tuple(random_one(kafka_type, hint) for _ in range(random.randrange(4)))
        else:
            values[field.name] = random_one(kafka_type, hint)
    return cls(**values)


def encode(entity):
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def check(line, cls):
    """What differs, or None."""
    raw = bytes.fromhex(line["hex"])
    entity, size = entity_reader(cls)(raw, 0)
    if size != len(raw):
        return f"{len(raw) - size} bytes left"
    value = show(entity)
    if value != line["value"]:
        return f"values differ:\n  ours   {json.dumps(line['value'])}\n  theirs {json.dumps(value)}"
    again = encode(entity)
    if again != raw:
        return f"bytes differ:\n  ours   {raw.hex()}\n  theirs {again.hex()}"
    return None


def main():
    random.seed(int(sys.argv[1]))
    checked, unknown, wrong = 0, {}, 0
    for text in sys.stdin:
        line = json.loads(text)
        cls = schema(line["kind"], line["name"], line["api"], line["version"])
        place = f"{line['name']} v{line['version']}"
        if cls is None:
            unknown[place] = True
            continue
        try:
            problem = check(line, cls)
        except Exception as error:  # the oracle reports whatever kio says about our bytes
            problem = f"{type(error).__name__}: {error}\n  ours {line['hex']}"
        checked += 1
        if problem:
            wrong += 1
            print(f"{place}: {problem}", file=sys.stderr)
            continue
        entity = random_entity(cls)
        print(json.dumps(line | {"hex": encode(entity).hex(), "value": show(entity)}))
    print(f"kio: {checked} messages read and written back, {wrong} differ", file=sys.stderr)
    print(f"kio does not know: {', '.join(unknown) or 'nothing of this'}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
