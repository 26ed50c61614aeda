"""aiokafka; its coroutines run on a loop of their own thread, so that heartbeats go on between calls."""

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, IllegalStateError, for_code

from rule import REPLICAS, Record
from verdict import Wrong

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(coroutine, seconds=50):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(seconds)


async def made(cls, **conf):
    thing = cls(**conf)
    await thing.start()
    return thing


class Reader:
    def __init__(self, bootstrap, **conf):
        self.inner = wait(made(AIOKafkaConsumer, bootstrap_servers=bootstrap, enable_auto_commit=False,
                               fetch_max_wait_ms=100, auto_offset_reset="earliest",
                               max_partition_fetch_bytes=4 << 20, **conf))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        wait(self.inner.stop())

    def poll(self, seconds, limit=500):
        got = wait(self.inner.getmany(timeout_ms=int(seconds * 1000), max_records=limit))
        for records in got.values():
            for r in records:
                yield r.partition, r.offset, Record(r.key, r.value, list(r.headers), r.timestamp)

    def assignment(self):
        return [tp.partition for tp in self.inner.assignment()]

    def commit(self):
        try:
            wait(self.inner.commit())
        except (CommitFailedError, IllegalStateError):
            pass  # the group rebalanced: the next owner reads these again


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.held = None

    @property
    def admin(self):
        if self.held is None:
            self.held = wait(made(AIOKafkaAdminClient, bootstrap_servers=self.bootstrap))
        return self.held

    def produce(self, topic, codec, idem, records):
        async def work():
            producer = await made(AIOKafkaProducer, bootstrap_servers=self.bootstrap, acks="all", linger_ms=5,
                                  compression_type=None if codec == "none" else codec,
                                  enable_idempotence=idem, max_request_size=4 << 20)
            try:
                sent = [await producer.send(topic, partition=part, key=r.key, value=r.value, headers=r.headers,
                                            timestamp_ms=r.ts) for part, r in records]
                await asyncio.gather(*sent)
                return len(sent)
            finally:
                await producer.stop()

        return wait(work(), 300)

    def reader(self, topic, starts):
        async def place(inner):
            inner.assign([TopicPartition(topic, p) for p in starts])
            for p, offset in starts.items():
                inner.seek(TopicPartition(topic, p), offset)

        reader = Reader(self.bootstrap, group_id=None)
        wait(place(reader.inner))
        return reader

    def member(self, topic, group):
        reader = Reader(self.bootstrap, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500)
        LOOP.call_soon_threadsafe(reader.inner.subscribe, [topic])
        return reader

    def offset_at(self, topic, p, ts):
        tp = TopicPartition(topic, p)
        with Reader(self.bootstrap, group_id=None) as r:
            found = wait(r.inner.offsets_for_times({tp: ts}))[tp]
        return found.offset if found else None

    def bounds(self, topic, parts):
        tps = [TopicPartition(topic, p) for p in range(parts)]
        with Reader(self.bootstrap, group_id=None) as r:
            first, last = wait(r.inner.beginning_offsets(tps)), wait(r.inner.end_offsets(tps))
        return {tp.partition: (first[tp], last[tp]) for tp in tps}

    def create(self, topic, parts, configs):
        answer = wait(self.admin.create_topics([NewTopic(topic, parts, REPLICAS, topic_configs=configs)]))
        code = answer.topic_errors[0][1]
        if code == 36:
            raise FileExistsError(topic)
        check(code)

    def delete(self, topic):
        check(wait(self.admin.delete_topics([topic])).topic_error_codes[0][1])

    def topics(self):
        return set(wait(self.admin.list_topics()))

    def partitions(self, topic):
        return len(wait(self.admin.describe_topics([topic]))[0]["partitions"])

    def broker_id(self):
        return wait(self.admin.describe_cluster())["brokers"][0]["node_id"]

    def configs(self, kind, name):
        resource = ConfigResource(ConfigResourceType[kind.upper()], name)
        code, message, _, _, entries = wait(self.admin.describe_configs([resource]))[0].resources[0]
        if code:
            raise Wrong(f"{for_code(code).__name__}: {message}")
        return {e[0]: e[1] for e in entries}


def check(code):
    if code:
        raise Wrong(for_code(code).__name__)
