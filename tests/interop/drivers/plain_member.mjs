// A member of a group with kafkajs: prints `PARTITION OFFSET` for each record and leaves on SIGTERM.
//
//     node plain_member.mjs BOOTSTRAP GROUP TOPIC       (NODE_HOME is the folder with node_modules)

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [, , bootstrap, groupId, topic] = process.argv
const { Kafka, logLevel, AssignerProtocol } = createRequire(pathToFileURL(`${process.env.NODE_HOME}/package.json`))('kafkajs')

/// kafkajs' own strategy has a name that no other client knows: this one is everybody's `range`.
const range = ({ cluster }) => ({
  name: 'range',
  version: 0,
  async assign ({ members, topics }) {
    const given = Object.fromEntries(members.map(({ memberId }) => [memberId, {}]))
    for (const name of topics) {
      const partitions = cluster.findTopicPartitionMetadata(name).map(({ partitionId }) => partitionId).sort((a, b) => a - b)
      const readers = members
        .filter(({ memberMetadata }) => AssignerProtocol.MemberMetadata.decode(memberMetadata).topics.includes(name))
        .map(({ memberId }) => memberId).sort()
      partitions.forEach((partition, at) => {
        const mine = given[readers[Math.floor(at * readers.length / partitions.length)]]
        mine[name] = [...(mine[name] || []), partition]
      })
    }
    return Object.entries(given).map(([memberId, assignment]) => ({
      memberId, memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment })
    }))
  },
  protocol: ({ topics }) => ({
    name: 'range', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) })
  })
})

const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 100, retries: 30 } })
const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 1000, partitionAssigners: [range] })
process.on('SIGTERM', async () => { await consumer.disconnect(); process.exit(0) })
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
await consumer.run({
  autoCommitInterval: 300,
  eachMessage: async ({ partition, message }) => { console.log(`${partition} ${message.offset}`) }
})
