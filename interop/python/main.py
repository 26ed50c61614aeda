"""The Python clients: `main.py FAMILY BOOTSTRAP CASE [name=value ...]` (see ../README.md)."""

import importlib
import json
import os
import sys
import threading
import time
import traceback
import uuid

import rule
from verdict import Absent, Wrong

MODULES = {"confluent": "via_confluent", "aiokafka": "via_aiokafka", "kafka-python": "via_kafka_python"}
PATIENCE = 40.0


class Args(dict):
    def num(self, name, default=0):
        return int(self.get(name, default))

    def records(self):
        """(partition, record) of 0..n."""
        for i in range(self.num("n")):
            yield i % self.num("parts"), rule.record(self["rule"], self.num("seed"), i, self.num("t0"))

    def check(self, p, offset, got):
        i = offset * self.num("parts") + p
        wrong = rule.difference(self["rule"], self.num("seed"), i, self.num("t0"), got)
        if wrong:
            raise Wrong(f"partition {p} offset {offset}: {wrong}")


def read(client, a, starts, counts):
    """Reads counts[p] records of each p from offset starts[p]; offsets must be dense."""
    want = {p: n for p, n in counts.items() if n > 0}
    at, seen = dict(starts), 0
    deadline = time.monotonic() + PATIENCE
    with client.reader(a["topic"], starts) as reader:
        while want:
            if time.monotonic() > deadline:
                raise Wrong(f"{seen} of {sum(counts.values())} records after {PATIENCE:.0f} s")
            for p, offset, got in reader.poll(0.5):
                if p not in want:
                    continue
                if offset != at[p]:
                    raise Wrong(f"partition {p}: offset {offset} where {at[p]} was due")
                a.check(p, offset, got)
                at[p], want[p], seen = offset + 1, want[p] - 1, seen + 1
                if want[p] == 0:
                    del want[p]
    return seen


def produce(client, a):
    client.produce(a["topic"], a["codec"], a.get("idem") == "1", a.records())
    return f"{a['n']} records"


def consume(client, a):
    parts = a.num("parts")
    counts = {p: len(range(p, a.num("n"), parts)) for p in range(parts)}
    return f"{read(client, a, dict.fromkeys(counts, 0), counts)} records"


def seek(client, a):
    each = a.num("n") // a.num("parts")
    read(client, a, {0: each // 2}, {0: 5})
    read(client, a, {0: each - 3}, {0: 3})
    read(client, a, {0: 1}, {0: 5})
    return "three places"


def seektime(client, a):
    parts = a.num("parts")
    for offset in (0, 7):
        at = a.num("t0") + 1000 * (offset * parts + 1) - 500
        found = client.offset_at(a["topic"], 1, at)
        if found != offset:
            raise Wrong(f"time {at} is at offset {found}, not {offset}")
    read(client, a, {1: found}, {1: 4})
    after = client.offset_at(a["topic"], 1, a.num("t0") + 1000 * a.num("n") + 1)
    if after is not None:
        raise Wrong(f"a time after the last record has offset {after}")
    return "found, and none after the end"


def resume(client, a):
    seen, runs = [], []
    total = a.num("n")
    for goal in (total // 2, total):
        deadline, before = time.monotonic() + PATIENCE, len(seen)
        with client.member(a["topic"], a["group"]) as member:
            while len(seen) < goal:
                if time.monotonic() > deadline:
                    raise Wrong(f"{len(seen)} of {goal} records after {PATIENCE:.0f} s")
                batch = [(p, offset) for p, offset, _ in member.poll(0.5, min(50, goal - len(seen)))]
                seen += batch
                if batch:
                    member.commit()
        runs.append(len(seen) - before)
    if len(set(seen)) != total or len(seen) != total:
        raise Wrong(f"{len(seen)} records read, {len(set(seen))} different, of {total}")
    return f"{runs[0]} then {runs[1]}"


def create(client, a):
    client.create(a["topic"], a.num("parts"), {k: v for k, v in a.items() if "." in k})
    return f"{a['parts']} partitions"


def topics(client, a):
    name = a["topic"]
    client.create(name, 3, {"retention.ms": "86400000"})
    try:
        client.create(name, 3, {})
        raise Wrong("the topic could be created twice")
    except FileExistsError:
        pass
    wait(lambda: name in client.topics(), "the new topic is not listed")
    if client.partitions(name) != 3:
        raise Wrong(f"described with {client.partitions(name)} partitions")
    client.delete(name)
    wait(lambda: name not in client.topics(), "the deleted topic is still listed")
    return "created, refused, listed, deleted"


def wait(done, complaint):
    deadline = time.monotonic() + 10
    while not done():
        if time.monotonic() > deadline:
            raise Wrong(complaint)
        time.sleep(0.1)


def configs(client, a):
    found = client.configs("topic", a["topic"])
    if found.get(a["key"]) != a["value"]:
        raise Wrong(f"{a['key']} is {found.get(a['key'])}, not {a['value']}")
    broker = client.configs("broker", str(client.broker_id()))
    for key in ("num.partitions", "log.dirs"):
        if not broker.get(key):
            raise Wrong(f"the broker does not describe {key}")
    return f"{len(found)} of a topic, {len(broker)} of a broker"


def offsets(client, a):
    parts = a.num("parts")
    want = {p: (0, len(range(p, a.num("n"), parts))) for p in range(parts)}
    got = client.bounds(a["topic"], parts)
    if got != want:
        raise Wrong(f"{got}, not {want}")
    return f"earliest and latest of {parts}"


def send(client, a):
    rate, began = a.num("rate"), time.monotonic()

    def paced():
        for count, (key, value) in enumerate(rule.read_file(a["file"])):
            ahead = count / rate - (time.monotonic() - began) if rate and count % 200 == 0 else 0
            if ahead > 0:
                time.sleep(ahead)
            yield None, rule.Record(key, value, [], None)

    count = client.produce(a["topic"], a.get("codec", "none"), True, paced())
    return f"{count} records"


def load(client, a):
    parts, name, rate, began = a.num("parts"), a["id"], a.num("rate"), time.monotonic()
    stop = until_told()
    sent, counts = 0, [0, 0]

    with open(a["acks"], "w") as acks:

        def done(p, number, offset, error):
            counts[error is not None] += 1
            now = time.time_ns() // 1000
            acks.write(f"{p} {offset} {number} {now}\n" if error is None else f"! {p} {number} {error}\n")

        with client.writer(a["topic"], done, None if "defaults" in a else a.num("timeout", 120)) as writer:
            while not stop.is_set():
                while sent < (time.monotonic() - began) * rate and not stop.is_set():
                    p, number = sent % parts, sent // parts
                    writer.send(p, number, name.encode(), rule.numbered(name, p, number))
                    sent += 1
                writer.wait(a.num("tick", 10) / 1000)
                acks.flush()
    return f"sent {sent} acknowledged {counts[0]} failed {counts[1]}"


def until_told():
    """An event that is set when standard input ends."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    return stop


def member(client, a):
    out = open(a["out"], "ab") if "out" in a else None
    stop = until_told()
    known = None
    with client.member(a["topic"], a["group"]) as m:
        while not stop.is_set():
            batch = list(m.poll(0.2))
            owned = sorted(m.assignment())
            if owned != known:
                known = owned
                say({"event": "assigned", "partitions": owned})
            if batch:
                if out:
                    out.write(b"".join(rule.pack(p, o, r.key, r.value) for p, o, r in batch))
                    out.flush()
                for p, first, last in spans(batch):
                    say({"event": "batch", "p": p, "from": first, "to": last})
                m.commit()
    return "left"


def spans(batch):
    """Runs of consecutive offsets, in order of arrival."""
    runs = []
    for p, offset, _ in batch:
        if runs and runs[-1][0] == p and runs[-1][2] + 1 == offset:
            runs[-1][2] = offset
        else:
            runs.append([p, offset, offset])
    return runs


CASES = (create, produce, consume, seek, seektime, resume, topics, configs, offsets, send, load, member)
CASES = {case.__name__: case for case in CASES}


def say(line):
    os.write(1, (json.dumps(line) + "\n").encode())


def run(client, case, words):
    began = time.monotonic()
    args = Args(w.split("=", 1) for w in words)
    args.setdefault("rule", "mix")
    args.setdefault("group", uuid.uuid4().hex)
    try:
        ok, detail = True, CASES[case](client, args)
    except Absent as why:
        ok, detail = None, str(why)
    except Exception as error:  # a client may raise anything; all of it is a verdict
        ok, detail = False, f"{type(error).__name__}: {error}"
        if not isinstance(error, Wrong):
            traceback.print_exc()
    ms = int((time.monotonic() - began) * 1000)
    say({"case": case, "ok": ok, "detail": detail, "ms": ms})
    return ok


def main():
    family, bootstrap, case, *words = sys.argv[1:]
    client = importlib.import_module(MODULES[family]).Client(bootstrap)
    if case != "serve":
        sys.exit(1 if run(client, case, words) is False else 0)
    for line in sys.stdin:
        case, *words = line.split()
        run(client, case, words)


if __name__ == "__main__":
    main()
