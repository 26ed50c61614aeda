"""librdkafka through confluent-kafka."""

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from rule import REPLICAS, Record
from verdict import Wrong


class Reader:
    def __init__(self, conf):
        self.inner = Consumer({"auto.offset.reset": "earliest", "enable.auto.commit": False,
                               "fetch.message.max.bytes": 4 << 20, "fetch.wait.max.ms": 100, **conf})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.inner.close()

    def poll(self, seconds, limit=500):
        for m in self.inner.consume(limit, min(seconds, 0.2)):
            if m.error():
                if m.error().fatal() or not m.error().retriable() and m.error().code() not in TOLERATED:
                    raise KafkaException(m.error())
                continue
            yield m.partition(), m.offset(), Record(m.key(), m.value(), m.headers() or [], m.timestamp()[1])

    def assignment(self):
        return [tp.partition for tp in self.inner.assignment()]

    def commit(self):
        try:
            self.inner.commit(asynchronous=False)
        except KafkaException as e:
            if e.args[0].code() not in LOST:
                raise


class Writer:
    """Sends with an idempotent producer; `done(p, number, offset, error)` hears of each record. Without a timeout all else is as the
    library has it."""

    def __init__(self, conf, topic, done, timeout):
        self.topic, self.done = topic, done
        own = {} if timeout is None else {
            "linger.ms": 5, "message.timeout.ms": timeout * 1000,
            "retry.backoff.ms": 50, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
        self.inner = Producer({**conf, "enable.idempotence": True, **own})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.inner.flush()

    def send(self, p, number, key, value):
        def report(err, m):
            # None where a later acknowledgement told librdkafka that this record is stored, too (rd_kafka_dr_implicit_ack).
            known = err is None and m.offset() is not None
            self.done(p, number, m.offset() if known else -1, err)

        while True:
            try:
                return self.inner.produce(self.topic, value=value, key=key, partition=p, on_delivery=report)
            except BufferError:
                self.inner.poll(0.1)
            except KafkaException as e:
                if not e.args[0].fatal():
                    raise
                # Nothing more can be sent with this producer; what became of the rest is told by its reports.
                return self.done(p, number, -1, e.args[0])

    def wait(self, seconds):
        self.inner.poll(seconds)


# A broker that is away is waited for; a commit that lost a race with a rebalance is repeated by the next owner.
TOLERATED = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._MAX_POLL_EXCEEDED,
             KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._RESOLVE}
LOST = {KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS, KafkaError._ASSIGNMENT_LOST, KafkaError._TRANSPORT,
        KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR}


class Client:
    def __init__(self, bootstrap):
        self.conf = {"bootstrap.servers": bootstrap}
        self.admin = AdminClient(self.conf)

    def produce(self, topic, codec, idem, records):
        failed, done = [], [0]

        def report(err, _msg):
            done[0] += 1
            if err:
                failed.append(err)

        p = Producer({**self.conf, "compression.type": codec, "enable.idempotence": idem, "linger.ms": 5,
                      "max.in.flight": 5 if idem else 1,
                      "message.max.bytes": 4 << 20, "queue.buffering.max.messages": 20000})
        sent = 0
        for part, r in records:
            where = {} if part is None else {"partition": part}
            while True:
                try:
                    p.produce(topic, value=r.value, key=r.key, headers=r.headers, timestamp=r.ts or 0,
                              on_delivery=report, **where)
                    break
                except BufferError:
                    p.poll(0.1)
            sent += 1
            p.poll(0)
        left = p.flush(55 if sent < 10000 else 300)
        if failed or left or done[0] != sent:
            raise Wrong(f"{len(failed)} of {sent} failed, {left} unsent: {failed[:1]}")
        return sent

    def writer(self, topic, done, timeout):
        return Writer(self.conf, topic, done, timeout)

    def reader(self, topic, starts):
        reader = Reader({**self.conf, "group.id": "unused"})
        reader.inner.assign([TopicPartition(topic, p, o) for p, o in starts.items()])
        return reader

    def member(self, topic, group):
        reader = Reader({**self.conf, "group.id": group, "session.timeout.ms": 6000,
                         "heartbeat.interval.ms": 500})
        reader.inner.subscribe([topic])
        return reader

    def offset_at(self, topic, p, ts):
        with Reader({**self.conf, "group.id": "unused"}) as r:
            found = r.inner.offsets_for_times([TopicPartition(topic, p, ts)], timeout=20)[0]
        if found.error:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else None

    def bounds(self, topic, parts):
        result = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
            asked = {TopicPartition(topic, p): spec for p in range(parts)}
            answers = self.admin.list_offsets(asked, request_timeout=20)
            result.append({tp.partition: f.result().offset for tp, f in answers.items()})
        return {p: (result[0][p], result[1][p]) for p in range(parts)}

    def create(self, topic, parts, configs):
        try:
            self.admin.create_topics([NewTopic(topic, parts, REPLICAS, config=configs)])[topic].result()
        except KafkaException as e:
            if e.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise FileExistsError(topic) from e
            raise

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result()

    def topics(self):
        return set(self.admin.list_topics(timeout=10).topics)

    def partitions(self, topic):
        return len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)

    def broker_id(self):
        return next(iter(self.admin.list_topics(timeout=10).brokers))

    def configs(self, kind, name):
        resource = ConfigResource(kind, name)
        found = self.admin.describe_configs([resource])[resource].result()
        return {k: v.value for k, v in found.items()}
