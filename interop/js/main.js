// kafkajs: `node main.js BOOTSTRAP CASE [name=value ...]` (see ../README.md).
'use strict'

const fs = require('node:fs')
const readline = require('node:readline')
const { randomUUID } = require('node:crypto')
const { Absent, Client, Exists } = require('./client')
const rule = require('./rule')

const PATIENCE = 40000

class Wrong extends Error {}

const say = (line) => fs.writeSync(1, JSON.stringify(line) + '\n')
const share = (a, p) => Math.ceil((a.n - p) / a.parts)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function check(a, r, due) {
  const where = `partition ${r.p} offset ${r.offset}: `
  if (r.offset !== due) throw new Wrong(`${where}${due} was due`)
  const wrong = rule.difference(a.rule, a.seed, r.offset * a.parts + r.p, a.t0, r)
  if (wrong) throw new Wrong(where + wrong)
}

// Reads counts[p] records of each p from starts[p]; offsets must be dense.
async function read(client, a, starts, counts) {
  const want = Object.values(counts).reduce((x, y) => x + y, 0)
  const at = { ...starts }
  const source = await client.reader(a.topic, starts, randomUUID())
  try {
    let seen = 0
    for (const deadline = Date.now() + PATIENCE; seen < want; ) {
      if (Date.now() > deadline) throw new Wrong(`${seen} of ${want} records after 40 s`)
      for (const r of await source.poll(500)) {
        if (!(r.p in counts) || at[r.p] - starts[r.p] >= counts[r.p]) continue
        check(a, r, at[r.p])
        at[r.p]++
        seen++
      }
    }
    return seen
  } finally {
    await source.close()
  }
}

async function wait(done, complaint) {
  for (const deadline = Date.now() + 10000; !(await done()); await sleep(100)) {
    if (Date.now() > deadline) throw new Wrong(complaint)
  }
}

const cases = {
  async create(client, a) {
    const configs = Object.fromEntries(Object.entries(a).filter(([name]) => name.includes('.')))
    await client.create(a.topic, a.parts, configs)
    return `${a.parts} partitions`
  },

  async produce(client, a) {
    const records = []
    for (let i = 0; i < a.n; i++) records.push({ ...rule.record(a.rule, a.seed, i, a.t0), p: i % a.parts })
    await client.produce(a.topic, a.codec, a.idem === '1', records)
    return `${a.n} records`
  },

  async consume(client, a) {
    const parts = [...Array(a.parts).keys()]
    const starts = Object.fromEntries(parts.map((p) => [p, 0]))
    const counts = Object.fromEntries(parts.map((p) => [p, share(a, p)]))
    return `${await read(client, a, starts, counts)} records`
  },

  async seek(client, a) {
    const each = Math.floor(a.n / a.parts)
    await read(client, a, { 0: Math.floor(each / 2) }, { 0: 5 })
    await read(client, a, { 0: each - 3 }, { 0: 3 })
    await read(client, a, { 0: 1 }, { 0: 5 })
    return 'three places'
  },

  async seektime(client, a) {
    for (const due of [0, 7]) {
      const at = a.t0 + 1000 * (due * a.parts + 1) - 500
      const found = await client.offsetAt(a.topic, 1, at)
      if (found !== due) throw new Wrong(`time ${at} is at offset ${found}, not ${due}`)
    }
    await read(client, a, { 1: 7 }, { 1: 4 })
    const after = await client.offsetAt(a.topic, 1, a.t0 + 1000 * a.n + 1)
    if (after !== null) throw new Wrong(`a time after the last record has offset ${after}`)
    return 'found, and none after the end'
  },

  async resume(client, a) {
    const seen = new Set()
    const runs = []
    let total = 0
    for (const goal of [Math.floor(a.n / 2), a.n]) {
      const before = total
      const member = await client.member(a.topic, a.group)
      try {
        for (const deadline = Date.now() + PATIENCE; total < goal; ) {
          if (Date.now() > deadline) throw new Wrong(`${total} of ${goal} records after 40 s`)
          const batch = await member.poll(Math.min(50, goal - total))
          for (const r of batch) seen.add(`${r.p}/${r.offset}`)
          total += batch.length
          if (batch.length) await member.commit()
        }
      } finally {
        await member.close()
      }
      runs.push(total - before)
    }
    if (total !== a.n || seen.size !== total) throw new Wrong(`${total} records read, ${seen.size} different, of ${a.n}`)
    return `${runs[0]} then ${runs[1]}`
  },

  async topics(client, a) {
    await client.create(a.topic, 3, { 'retention.ms': '86400000' })
    try {
      await client.create(a.topic, 3, {})
      throw new Wrong('the topic could be created twice')
    } catch (error) {
      if (!(error instanceof Exists)) throw error
    }
    await wait(async () => (await client.topics()).includes(a.topic), 'the new topic is not listed')
    const parts = await client.partitions(a.topic)
    if (parts !== 3) throw new Wrong(`described with ${parts} partitions`)
    await client.remove(a.topic)
    await wait(async () => !(await client.topics()).includes(a.topic), 'the deleted topic is still listed')
    return 'created, refused, listed, deleted'
  },

  async configs(client, a) {
    const topic = await client.configs('topic', a.topic)
    if (topic[a.key] !== a.value) throw new Wrong(`${a.key} is ${topic[a.key]}, not ${a.value}`)
    const broker = await client.configs('broker', await client.broker())
    for (const key of ['num.partitions', 'log.dirs']) {
      if (!broker[key]) throw new Wrong(`the broker does not describe ${key}`)
    }
    return `${Object.keys(topic).length} of a topic, ${Object.keys(broker).length} of a broker`
  },

  async offsets(client, a) {
    const got = await client.bounds(a.topic)
    for (let p = 0; p < a.parts; p++) {
      if (got[p][0] !== 0 || got[p][1] !== share(a, p)) throw new Wrong(`partition ${p}: ${got[p]}, not 0,${share(a, p)}`)
    }
    return `earliest and latest of ${a.parts}`
  },

  async send(client, a) {
    const records = rule.readFile(fs.readFileSync(a.file))
    await client.produce(a.topic, 'gzip', true, records)
    return `${records.length} records`
  },

  async member(client, a) {
    let stop = false
    process.stdin.on('close', () => { stop = true }).resume()
    const member = await client.member(a.topic, a.group)
    let known = null
    while (!stop) {
      const batch = await member.poll(500)
      const owned = JSON.stringify(member.owned)
      if (owned !== known) {
        known = owned
        say({ event: 'assigned', partitions: member.owned })
      }
      if (batch.length === 0) continue
      if (a.out) fs.appendFileSync(a.out, Buffer.concat(batch.map(rule.pack)))
      for (const [p, from, to] of spans(batch)) say({ event: 'batch', p, from, to })
      await member.commit()
    }
    await member.close()
    return 'left'
  },
}

// Runs of consecutive offsets, in order of arrival.
function spans(batch) {
  const runs = []
  for (const { p, offset } of batch) {
    const last = runs[runs.length - 1]
    if (last && last[0] === p && last[2] + 1 === offset) last[2] = offset
    else runs.push([p, offset, offset])
  }
  return runs
}

function parse(words) {
  const a = { rule: 'mix', group: randomUUID() }
  for (const word of words) {
    const at = word.indexOf('=')
    a[word.slice(0, at)] = word.slice(at + 1)
  }
  for (const name of ['n', 'parts', 'seed', 't0']) a[name] = Number(a[name] || 0)
  return a
}

async function run(client, name, words) {
  const began = Date.now()
  const out = { case: name, ok: true, detail: '', ms: 0 }
  try {
    out.detail = await cases[name](client, parse(words))
  } catch (error) {
    out.ok = error instanceof Absent ? null : false
    out.detail = `${error.name}: ${error.message}`
    if (out.ok === false && !(error instanceof Wrong)) process.stderr.write(`${error.stack}\n`)
  }
  out.ms = Date.now() - began
  say(out)
  return out.ok !== false
}

async function main() {
  const [bootstrap, name, ...words] = process.argv.slice(2)
  const client = new Client(bootstrap)
  if (name !== 'serve') process.exit((await run(client, name, words)) ? 0 : 1)
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [each, ...rest] = line.trim().split(/ +/)
    await run(client, each, rest)
  }
  process.exit(0)
}

main()
