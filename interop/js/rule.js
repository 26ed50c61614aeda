// The common rule of record content (see ../README.md), and the record files.
'use strict'

const TEXT = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')
const BIG = 1 << 20

function stream(seed, i) {
  let x = (Math.imul(seed, 2654435761) + Math.imul(i, 40503) + 1) | 0 || 1
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
}

function content(seed, i, text, length) {
  const next = stream(seed, i)
  let size = 1 + (next() % 400)
  size = length || size
  const value = Buffer.alloc(size)
  for (let at = 0; at < size; at++) {
    if (at >= 4096) value[at] = value[at - 4096]
    else if (text) value[at] = TEXT[(next() >>> 8) & 63]
    else value[at] = (next() >>> 8) & 255
  }
  return value
}

function record(rule, seed, i, t0) {
  const ts = t0 ? t0 + 1000 * i : null
  const key = Buffer.from(`k-${i}`)
  if (rule === 'big') return { key, value: content(seed, i, false, BIG), headers: [], ts }
  if (rule === 'nullhdr') {
    return { key, value: content(seed, i, true), headers: [['h0', null], ['h1', Buffer.from('v')]], ts }
  }
  if (rule === 'plain') {
    const value = i % 11 === 4 ? null : content(seed, i, true)
    return { key: i % 7 === 3 && value ? null : key, value, headers: [], ts: null }
  }
  const value = i % 11 === 4 ? null : i % 11 === 8 ? Buffer.alloc(0) : content(seed, i, false)
  const all = [['h0', Buffer.from(`v${i}`)], ['h1', Buffer.alloc(0)], ['h2', Buffer.from([0xff, 0xfe])]]
  const own = i % 7 === 3 && value !== null ? null : i % 7 === 5 ? Buffer.alloc(0) : key
  return { key: own, value, headers: all.slice(0, i % 4), ts }
}

const same = (a, b) => (a === null || b === null ? a === b : a.equals(b))
const show = (v) => (v === null ? 'null' : `${JSON.stringify(v.subarray(0, 40).toString('latin1'))} (${v.length} bytes)`)

// What is wrong with `got` as record i, or null.
function difference(rule, seed, i, t0, got) {
  const want = record(rule, seed, i, t0)
  for (const name of ['key', 'value']) {
    if (!same(want[name], got[name])) return `record ${i}: ${name} is ${show(got[name])}, not ${show(want[name])}`
  }
  const headers = (list) => list.map(([name, value]) => `${name}=${show(value)}`).join(' ')
  if (headers(want.headers) !== headers(got.headers)) {
    return `record ${i}: headers are ${headers(got.headers)}, not ${headers(want.headers)}`
  }
  if (want.ts !== null && want.ts !== got.ts) return `record ${i}: timestamp is ${got.ts}, not ${want.ts}`
  return null
}

// The (key, value) pairs of a record file.
function readFile(data) {
  const records = []
  let at = 0
  const field = () => {
    const size = data.readInt32BE(at)
    at += 4
    if (size < 0) return null
    at += size
    return data.subarray(at - size, at)
  }
  while (at < data.length) {
    const key = field()
    records.push({ key, value: field(), headers: [], ts: null })
  }
  return records
}

// One record of a member's out file.
function pack(r) {
  const head = Buffer.alloc(12)
  head.writeInt32BE(r.p, 0)
  head.writeBigInt64BE(BigInt(r.offset), 4)
  const parts = [head]
  for (const field of [r.key, r.value]) {
    const size = Buffer.alloc(4)
    size.writeInt32BE(field === null ? -1 : field.length)
    parts.push(size, field || Buffer.alloc(0))
  }
  return Buffer.concat(parts)
}

module.exports = { record, difference, readFile, pack }
