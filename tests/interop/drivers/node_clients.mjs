// Node's Kafka clients behind one protocol: a line of JSON in, a line of JSON out. See harness.py, class Driver.
//
//     node node_clients.mjs kafkajs|platformatic BOOTSTRAP       (NODE_HOME is the folder with node_modules)

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import zlib from 'node:zlib'

const [, , name, bootstrap] = process.argv
const require = createRequire(pathToFileURL(`${process.env.NODE_HOME}/package.json`))
const brokers = [bootstrap]

/// What one request changed another may show a moment later: Kafka's brokers follow the controller.
const settle = () => new Promise(resolve => setTimeout(resolve, 300))

const encode = data => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))
const decode = text => (text === null ? null : Buffer.from(text, 'base64'))

/// Names of headers to their values: a list where a name is repeated.
function headersIn (record) {
  const headers = {}
  for (const [name, value] of record.headers) {
    const data = decode(value)
    headers[name] = name in headers ? [headers[name], data].flat() : data
  }
  return headers
}

class KafkaJs {
  constructor () {
    const { Kafka, logLevel, CompressionTypes, CompressionCodecs } = require('kafkajs')
    const { lz4Compress, lz4Decompress, snappyCompress, snappyDecompress } = require('@platformatic/wasm-utils')
    const codec = (compress, decompress) => () => ({
      compress: async encoder => compress(encoder.buffer),
      decompress: async buffer => decompress(buffer)
    })
    CompressionCodecs[CompressionTypes.LZ4] = codec(lz4Compress, lz4Decompress)
    CompressionCodecs[CompressionTypes.Snappy] = codec(snappyCompress, snappyDecompress)
    if (zlib.zstdCompressSync) CompressionCodecs[CompressionTypes.ZSTD] = codec(zlib.zstdCompressSync, zlib.zstdDecompressSync)
    this.types = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }
    this.kafka = new Kafka({ brokers, clientId: 'interop', logLevel: logLevel.NOTHING, retry: { retries: 3 } })
    process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
  }

  async produce ({ topic, records, codec = 'none', idempotent = false }) {
    const producer = this.kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : null })
    await producer.connect()
    try {
      const results = await producer.send({
        topic,
        acks: -1,
        compression: this.types[codec],
        messages: records.map(r => ({
          key: decode(r.key),
          value: decode(r.value),
          headers: headersIn(r),
          timestamp: r.timestamp === null ? undefined : String(r.timestamp),
          ...(r.partition === null ? {} : { partition: r.partition })
        }))
      })
      return { bases: results.map(r => [r.partition, Number(r.baseOffset)]) }
    } finally {
      await producer.disconnect()
    }
  }

  async admin ({ topic }) {
    const admin = this.kafka.admin()
    await admin.connect()
    try {
      await admin.createTopics({
        waitForLeaders: true,
        topics: [{ topic, numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '12345' }] }]
      })
      await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
      await settle()
      const configs = await admin.describeConfigs({ resources: [{ type: 2, name: topic, configNames: ['retention.ms'] }] })
      const metadata = await admin.fetchTopicMetadata({ topics: [topic] })
      await admin.deleteTopics({ topics: [topic] })
      await settle()
      const left = (await admin.listTopics()).includes(topic)
      return {
        partitions: metadata.topics[0].partitions.length,
        'retention.ms': configs.resources[0].configEntries[0].configValue,
        left
      }
    } finally {
      await admin.disconnect()
    }
  }
}

class Platformatic {
  constructor () {
    this.library = require('@platformatic/kafka')
  }

  async produce ({ topic, records, codec = 'none', idempotent = false }) {
    const producer = new this.library.Producer({ clientId: 'interop', bootstrapBrokers: brokers, idempotent })
    try {
      const { offsets } = await producer.send({
        acks: -1,
        compression: codec,
        autocreateTopics: true,
        messages: records.map(r => ({
          topic,
          key: decode(r.key) ?? undefined,
          value: decode(r.value) ?? undefined,
          headers: new Map(r.headers.map(([name, value]) => [Buffer.from(name), decode(value)])),
          ...(r.timestamp === null ? {} : { timestamp: BigInt(r.timestamp) }),
          ...(r.partition === null ? {} : { partition: r.partition })
        }))
      })
      return { bases: offsets.map(o => [o.partition, Number(o.offset)]) }
    } finally {
      await producer.close()
    }
  }

  /// Fetches without a group.
  async consume ({ topic, partition, count, offset = 0 }) {
    const consumer = new this.library.Consumer({ clientId: 'interop', bootstrapBrokers: brokers, groupId: 'unused', maxWaitTime: 200 })
    try {
      const metadata = await consumer.metadata({ topics: [topic] })
      const described = metadata.topics.get(topic)
      const { leader: node, leaderEpoch } = described.partitions[partition]
      const records = []
      for (let turn = 0, next = offset; turn < 100 && records.length < count; turn++) {
        const answer = await consumer.fetch({
          node,
          topics: [{
            topicId: described.id,
            partitions: [{ partition, currentLeaderEpoch: leaderEpoch, fetchOffset: BigInt(next), lastFetchedEpoch: -1, partitionMaxBytes: 1 << 20 }]
          }]
        })
        for (const batch of answer.responses[0]?.partitions[0]?.records ?? []) {
          for (const r of batch.records) {
            records.push({
              offset: Number(batch.firstOffset) + r.offsetDelta,
              timestamp: Number(batch.firstTimestamp + r.timestampDelta),
              key: encode(r.key),
              value: encode(r.value),
              headers: [...r.headers].map(([name, value]) => [name.toString(), encode(value)])
            })
            next = records.at(-1).offset + 1
          }
        }
      }
      return { records }
    } finally {
      await consumer.close(true)
    }
  }

  async admin ({ topic }) {
    const admin = new this.library.Admin({ clientId: 'interop', bootstrapBrokers: brokers })
    try {
      await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1, configs: [{ name: 'retention.ms', value: '12345' }] })
      await admin.createPartitions({ topics: [{ name: topic, count: 3, assignments: null }] })
      await settle()
      const configs = await admin.describeConfigs({ resources: [{ resourceType: 2, resourceName: topic, configurationKeys: ['retention.ms'] }] })
      const metadata = await admin.metadata({ topics: [topic], forceUpdate: true })
      await admin.deleteTopics({ topics: [topic] })
      await settle()
      const left = (await admin.listTopics()).includes(topic)
      return {
        partitions: Object.keys(metadata.topics.get(topic).partitions).length,
        'retention.ms': configs[0].configs[0].value,
        left
      }
    } finally {
      await admin.close()
    }
  }
}

const client = name === 'kafkajs' ? new KafkaJs() : new Platformatic()
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = await client[request.op](request)
  } catch (error) {
    const causes = (error.errors ?? []).map(e => e.message)
    answer = { error: [`${error.name}: ${error.message}`, ...causes].join('; ') }
  }
  console.log(JSON.stringify(answer))
}
process.exit(0)
