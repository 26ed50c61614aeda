// kafkajs behind the few calls that the cases need.
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4js')
const { ZstdCodec } = require('zstd-codec')

CompressionCodecs[CompressionTypes.Snappy] = snappy

// How many replicas each topic has that is created here.
const REPLICAS = Number(process.env.REPLICAS ?? 1)

// A frame of independent blocks, which is all that Kafka reads; lz4js alone writes dependent ones.
function lz4Frame(data) {
  const parts = [Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73])]
  for (let at = 0; at < data.length; at += 4 << 20) {
    const block = data.subarray(at, at + (4 << 20))
    const packed = Buffer.alloc(lz4.compressBound(block.length))
    const size = lz4.compressBlock(block, packed, 0, block.length, new Uint32Array(1 << 16))
    const head = Buffer.alloc(4)
    const whole = size > 0 && size < block.length
    head.writeUInt32LE(whole ? size : (block.length | 0x80000000) >>> 0)
    parts.push(head, whole ? packed.subarray(0, size) : block)
  }
  return Buffer.concat([...parts, Buffer.alloc(4)])
}

CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4Frame(encoder.buffer),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const zstd = new Promise((resolve) => ZstdCodec.run((z) => resolve(new z.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})
const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}
// Losing a race with a rebalance is no error: the next owner reads these again.
const LOST = new Set(['ILLEGAL_GENERATION', 'REBALANCE_IN_PROGRESS', 'UNKNOWN_MEMBER_ID', 'NOT_COORDINATOR_FOR_GROUP'])

class Absent extends Error {}
class Exists extends Error {}

const toStderr = () => ({ log }) => process.stderr.write(`${log.message} ${log.error || ''}\n`)

function fromMessage(p, m) {
  const headers = []
  for (const [name, value] of Object.entries(m.headers || {})) {
    for (const each of Array.isArray(value) ? value : [value]) headers.push([name, each === undefined ? null : each])
  }
  return { p, offset: Number(m.offset), key: m.key, value: m.value, headers, ts: Number(m.timestamp) }
}

// A consumer whose messages wait until they are polled, so that nothing is taken beyond what was asked for.
class Source {
  constructor(consumer, topic) {
    Object.assign(this, { consumer, topic, owned: [], waiting: [], next: new Map(), open: true })
    const { GROUP_JOIN, REBALANCING } = consumer.events
    consumer.on(GROUP_JOIN, (e) => { this.owned = [...(e.payload.memberAssignment[topic] || [])].sort((a, b) => a - b) })
    consumer.on(REBALANCING, () => { this.owned = [] })
  }

  async start(starts) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true })
    const eachMessage = ({ partition, message }) =>
      new Promise((taken) => {
        if (!this.open) taken()
        else this.waiting.push({ record: fromMessage(partition, message), taken })
      })
    await this.consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 3, eachMessage })
    for (const [p, offset] of Object.entries(starts || {})) {
      this.consumer.seek({ topic: this.topic, partition: Number(p), offset: String(offset) })
    }
    return this
  }

  async poll(limit) {
    const batch = []
    const deadline = Date.now() + 200
    while (batch.length < limit && Date.now() < deadline) {
      const first = this.waiting.shift()
      if (!first) {
        if (batch.length > 0 && Date.now() > deadline - 150) break
        await new Promise((resolve) => setTimeout(resolve, 2))
        continue
      }
      batch.push(first.record)
      this.next.set(first.record.p, first.record.offset + 1)
      first.taken()
      await new Promise((resolve) => setImmediate(resolve))
    }
    return batch
  }

  async commit() {
    const offsets = [...this.next].map(([partition, offset]) => ({ topic: this.topic, partition, offset: String(offset) }))
    this.next.clear()
    try {
      await this.consumer.commitOffsets(offsets)
    } catch (error) {
      if (!LOST.has((error.cause || error).type)) throw error
    }
  }

  async close() {
    this.open = false
    for (const { taken } of this.waiting) taken()
    await this.consumer.disconnect()
  }
}

class Client {
  constructor(bootstrap) {
    this.kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.ERROR, logCreator: toStderr })
  }

  async admin(work) {
    if (!this.held) {
      this.held = this.kafka.admin()
      await this.held.connect()
    }
    return work(this.held)
  }

  async produce(topic, codec, idempotent, records) {
    if (records.some((r) => r.headers.some(([, value]) => value === null))) {
      throw new Absent('header values cannot be null')
    }
    const producer = this.kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined })
    await producer.connect()
    try {
      for (let at = 0; at < records.length; at += 1000) {
        const messages = records.slice(at, at + 1000).map((r) => ({
          key: r.key,
          value: r.value,
          headers: Object.fromEntries(r.headers),
          partition: r.p,
          timestamp: r.ts === null ? undefined : String(r.ts),
        }))
        await producer.send({ topic, acks: -1, compression: TYPES[codec], messages })
      }
    } finally {
      await producer.disconnect()
    }
  }

  consumer(groupId) {
    return this.kafka.consumer({
      groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 100,
      maxBytesPerPartition: 4 << 20,
    })
  }

  reader(topic, starts, group) {
    return new Source(this.consumer(group), topic).start(starts)
  }

  member(topic, group) {
    return new Source(this.consumer(group), topic).start()
  }

  offsetAt(topic, p, ts) {
    return this.admin(async (admin) => {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, ts)
      const { offset } = found.find((f) => f.partition === p)
      const ends = await admin.fetchTopicOffsets(topic)
      // kafkajs answers with the end offset where there is none
      return offset === ends.find((e) => e.partition === p).high ? null : Number(offset)
    })
  }

  bounds(topic) {
    return this.admin(async (admin) => {
      const found = await admin.fetchTopicOffsets(topic)
      return Object.fromEntries(found.map((f) => [f.partition, [Number(f.low), Number(f.high)]]))
    })
  }

  create(topic, parts, configs) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    return this.admin(async (admin) => {
      const wanted = { topic, numPartitions: parts, replicationFactor: REPLICAS, configEntries }
      try {
        if (!(await admin.createTopics({ topics: [wanted] }))) throw new Exists(topic)
      } catch (error) {
        // the topic is made, but the broker that kafkajs asks for its leaders does not know it yet
        if (error.type !== 'UNKNOWN_TOPIC_OR_PARTITION') throw error
      }
    })
  }

  remove(topic) {
    return this.admin((admin) => admin.deleteTopics({ topics: [topic] }))
  }

  topics() {
    return this.admin((admin) => admin.listTopics())
  }

  partitions(topic) {
    return this.admin(async (admin) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length)
  }

  broker() {
    return this.admin(async (admin) => String((await admin.describeCluster()).brokers[0].nodeId))
  }

  configs(kind, name) {
    const type = kind === 'topic' ? ConfigResourceTypes.TOPIC : ConfigResourceTypes.BROKER
    return this.admin(async (admin) => {
      const found = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type, name }] })
      return Object.fromEntries(found.resources[0].configEntries.map((e) => [e.configName, e.configValue]))
    })
  }
}

module.exports = { Absent, Client, Exists }
