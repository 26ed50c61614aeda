"""kafka-python."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import CommitFailedError, KafkaError, TopicAlreadyExistsError
from kafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from rule import REPLICAS, Record
from verdict import Absent, Wrong

LOST = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


class Reader:
    def __init__(self, bootstrap, **conf):
        self.inner = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100,
                                   auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20, **conf)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.inner.close()

    def poll(self, seconds, limit=500):
        for records in self.inner.poll(timeout_ms=int(seconds * 1000), max_records=limit).values():
            for r in records:
                yield r.partition, r.offset, Record(r.key, r.value, r.headers, r.timestamp)

    def assignment(self):
        return [tp.partition for tp in self.inner.assignment()]

    def commit(self):
        try:
            self.inner.commit()
        except LOST:
            pass


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.held = None

    @property
    def admin(self):
        if self.held is None:
            self.held = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.held

    def produce(self, topic, codec, idem, records):
        records = list(records)
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec,
                                 enable_idempotence=idem, acks="all",
                                 max_in_flight_requests_per_connection=5 if idem else 1, linger_ms=5, max_request_size=4 << 20)
        try:
            if any(value is None for _, r in records for _, value in r.headers):
                raise Absent("header values cannot be null")
            futures = [producer.send(topic, partition=part, key=r.key, value=r.value, headers=r.headers,
                                     timestamp_ms=r.ts) for part, r in records]
            producer.flush(50)
            for future in futures:
                future.get(5)
            return len(futures)
        except KafkaError as e:
            raise Wrong(repr(e)) from e
        finally:
            producer.close(5)

    def reader(self, topic, starts):
        reader = Reader(self.bootstrap, group_id=None)
        reader.inner.assign([TopicPartition(topic, p) for p in starts])
        for p, offset in starts.items():
            reader.inner.seek(TopicPartition(topic, p), offset)
        return reader

    def member(self, topic, group):
        reader = Reader(self.bootstrap, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500)
        reader.inner.subscribe([topic])
        return reader

    def offset_at(self, topic, p, ts):
        with Reader(self.bootstrap, group_id=None) as r:
            found = r.inner.offsets_for_times({TopicPartition(topic, p): ts})[TopicPartition(topic, p)]
        return found.offset if found else None

    def bounds(self, topic, parts):
        tps = [TopicPartition(topic, p) for p in range(parts)]
        with Reader(self.bootstrap, group_id=None) as r:
            first, last = r.inner.beginning_offsets(tps), r.inner.end_offsets(tps)
        return {tp.partition: (first[tp], last[tp]) for tp in tps}

    def create(self, topic, parts, configs):
        try:
            self.admin.create_topics({topic: {"num_partitions": parts, "replication_factor": REPLICAS, "configs": configs}})
        except TopicAlreadyExistsError as e:
            raise FileExistsError(topic) from e

    def delete(self, topic):
        self.admin.delete_topics([topic])

    def topics(self):
        return set(self.admin.list_topics())

    def partitions(self, topic):
        return len(self.admin.describe_topics([topic])[0]["partitions"])

    def broker_id(self):
        return self.admin.describe_cluster()["brokers"][0]["broker_id"]

    def configs(self, kind, name):
        found = self.admin.describe_configs([ConfigResource(kind, name)], config_filter="all")
        return {k: v["value"] for k, v in found[kind][name].items()}
