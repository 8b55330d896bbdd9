# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_klamm_global_optspecs
    string join \n h/help V/version
end

function __fish_klamm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_klamm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_klamm_using_subcommand
    set -l cmd (__fish_klamm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c klamm -n "__fish_klamm_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_needs_command" -s V -l version -d 'Print version'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "serve" -d 'Run a broker until it is told to stop'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "produce" -d 'Send records from standard input or files to a topic'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "consume" -d 'Print the records of topics'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "dump-segment" -d 'Show what the files of a log directory hold'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "verify" -d 'Check the files of log directories, every byte; or that the replicas in a cluster hold the same'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "audit" -d 'Hold what was consumed against what was produced'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "topics" -d 'List, describe, create, alter and delete topics'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "configs" -d 'Read and change configurations'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "offsets" -d 'Look up offsets, and cut off the front of partitions'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "groups" -d 'List and describe consumer groups, watch their lag, move and delete their offsets'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "log-dirs" -d 'Show log directories: sizes, free space, lag; and move partitions between them'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "reassign" -d 'Move partitions between brokers: plan, run, watch, cancel'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "cluster" -d 'Show the nodes, quorum and features of a cluster, and change them'
complete -c klamm -n "__fish_klamm_needs_command" -f -a "bench" -d 'Measure a broker: throughput, latency, processor time and memory'
complete -c klamm -n "__fish_klamm_using_subcommand serve" -s d -l dir -d 'Log directory; repeated for several disks, the first holds the metadata [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l listen -d 'Where to listen, unix:PATH too; port 0 takes a free one [default: 127.0.0.1:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l advertise -d 'What clients are told to connect to' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l node -d 'The node\'s id; a directory that has one keeps it [default: 1]' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l quorum -d 'The voters of the quorum, this node among them or not; the node\'s own entry is its controller listener' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l cluster-id -d 'The id of a new cluster [default: drawn; of several voters, made of their list]' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l config -d 'A server.properties of Apache Kafka' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand serve" -l set -d 'Set a broker configuration by Kafka\'s name; beats the file' -r
complete -c klamm -n "__fish_klamm_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s D -l delimiter -d 'What ends a record; empty: each file is one record. Escapes: \\n \\t \\r \\0 \\xNN' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s K -l key-delimiter -d 'What stands between key and value' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s f -l format -d 'Read records by a format string: %k key, %v value, %K %V their lengths, %T timestamp, %H %h{…} headers' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s k -l key -d 'The key of every record that has none of its own' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s p -l partition -d 'The partition of every record' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s H -l header -d 'A header of every record; without \'=\' its value is null. May be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l timestamp -d 'The timestamp of every record that has none of its own: ISO 8601, epoch milliseconds, -15m' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s z -l compression -d 'Compress: none, gzip, snappy, lz4 or zstd, with a level if you like: zstd:9' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s a -l acks -d 'When a record counts as sent: 0 (at once), 1 (the leader has it) or all (in-sync replicas have it)' -r -f -a "0\t''
1\t''
all\t''"
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l partitioner -d 'Where keys go: murmur2 (as Java\'s clients), crc32 (as librdkafka\'s), random, round-robin' -r -f -a "murmur2\t''
crc32\t''
random\t''
round-robin\t''"
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s c -l count -d 'Stop after so many records' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l audit -d 'Count records by topic and minute, and write the counts to this topic, for \'klamm audit\'' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l audit-as -d 'The name to count under; records may be read by several names, each of which should get all of them [default: the group, else the client.id]' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l json -d 'Read one JSON object a line: what \'consume --json\' and \'kcat -J\' print. Reports are JSON too'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s Z -l null -d 'An empty key or value is null'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l keep-partition -d 'Send each record to the partition that it names (--json, or %p in -f)'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -l report -d 'Print topic, partition and offset of every record that was acknowledged'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s T -l tee -d 'Print the input again, record by record, as it is sent'
complete -c klamm -n "__fish_klamm_using_subcommand produce" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s g -l group -d 'Read as a member of this consumer group: begin at its commits, commit what was written' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l commit -d 'With -g, when to commit: after records are written (each is read at least once), before (at most once), or never' -r -f -a "after\t''
before\t''
never\t''"
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s p -l partitions -d 'Only these partitions: 0,2-4' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s o -l offset -d 'Where to begin, and to end: beginning, end, N, -N, N:M, @TIME, @TIME:@TIME [default: beginning]' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s c -l count -d 'Stop after so many records' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l tail -d 'Begin with the last N records of all partitions together, in order of time' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l idle -d 'Stop when nothing came for so long' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s f -l format -d 'Print records by a format string' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s D -l delimiter -d 'What to print behind each record; empty: nothing. Escapes: \\n \\t \\r \\0 \\xNN' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s K -l key-delimiter -d 'Print the key too, with this behind it' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l grep -d 'Only records that match: [!][k:|v:|hk:|hv:|h:NAME=|t:]PATTERN, the value by default. All must match' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l audit -d 'Count records by topic and minute, and write the counts to this topic, for \'klamm audit\'' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l audit-as -d 'The name to count under; records may be read by several names, each of which should get all of them [default: the group, else the client.id]' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s e -l exit -d 'Stop at the end as it is now'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s Z -l null -d 'Print NULL for a key or value that is null'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l json -d 'One JSON object a line; bytes that are not UTF-8 in base64'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s u -l unbuffered -d 'Write each record at once'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l uncommitted -d 'Also records of transactions that are open or were taken back'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -l control-records -d 'Also the markers that end transactions'
complete -c klamm -n "__fish_klamm_using_subcommand consume" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l files -d 'The same, separated by commas' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l from -d 'Only records from this offset or time on' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l to -d 'Only records before this offset or time' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l max-bytes -d 'Stop after so many bytes of each log' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l max-message-size -d 'Accepted, and not needed: batches of any size are read' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l key-decoder-class -d 'How keys are read: StringDecoder, IntegerDecoder, LongDecoder or hex' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l value-decoder-class -d 'How values are read: StringDecoder, IntegerDecoder, LongDecoder or hex' -r
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l json -d 'One JSON object a line: batches, or their records with --deep-iteration or --print-data-log'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l summary -d 'A table of segments instead of their content'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l deep-iteration -d 'Show records too'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l print-data-log -d 'Show records with keys and values'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l skip-record-metadata -d 'Show nothing of a record but key and value; leaves control records out'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l verify-index-only -d 'Compare indexes with their logs, show nothing of them'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l index-sanity-check -d 'Check indexes as a broker does at start-up, no more'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l offsets-decoder -d 'The log is one of __consumer_offsets'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l transaction-log-decoder -d 'The log is one of __transaction_state'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l cluster-metadata-decoder -d 'The log or snapshot is one of __cluster_metadata'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l share-group-state-decoder -d 'The log is one of __share_group_state'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -l remote-log-metadata-decoder -d 'The log is one of __remote_log_metadata'
complete -c klamm -n "__fish_klamm_using_subcommand dump-segment" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand verify" -s b -l bootstrap -d 'Compare the replicas in this cluster' -r
complete -c klamm -n "__fish_klamm_using_subcommand verify" -s j -l threads -d 'Threads that read, as many as there are cores unless given; with -b, partitions at a time [default: 8]' -r
complete -c klamm -n "__fish_klamm_using_subcommand verify" -l timeout -d 'With -b: give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand verify" -s X -d 'With -b: set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand verify" -l json -d 'One JSON object a line: a finding, or what a directory comes to'
complete -c klamm -n "__fish_klamm_using_subcommand verify" -l repair -d 'Mend what can be mended, as recovery does; what goes is kept in .kept files. No directory may be in use'
complete -c klamm -n "__fish_klamm_using_subcommand verify" -s q -l quiet -d 'Leave notes out; with -b, what is the same'
complete -c klamm -n "__fish_klamm_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l topic -d 'Only counts of this topic; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l consumer -d 'Only what was consumed under this name; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l from -d 'Only minutes from this time on: ISO 8601, epoch milliseconds, -15m' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l until -d 'Only minutes before this time' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l grace -d 'A minute is open until so long after its end' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l all -d 'Minutes that are the same, too'
complete -c klamm -n "__fish_klamm_using_subcommand audit" -l json -d 'One JSON object a line, a line a minute'
complete -c klamm -n "__fish_klamm_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -f -a "list" -d 'List topics, one a line'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -f -a "describe" -d 'Describe topics: leaders, replicas, offsets, sizes, configuration'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -f -a "create" -d 'Create topics'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -f -a "alter" -d 'Add partitions to topics'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and not __fish_seen_subcommand_from list describe create alter delete" -f -a "delete" -d 'Delete topics with all their records'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s e -l regex -d 'Topics whose whole name matches, by RE2 syntax' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -l internal -d 'Internal topics too, such as __consumer_offsets'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line: topic, id, partitions, replication_factor, internal'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -s e -l regex -d 'Topics whose whole name matches, by RE2 syntax' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l internal -d 'Internal topics too, such as __consumer_offsets'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l under-replicated -d 'Only partitions with replicas that are not in sync'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l offline -l unavailable -d 'Only partitions without a leader'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l at-min-isr -d 'Only partitions with as many replicas in sync as min.insync.replicas asks for, or fewer'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l under-min-isr -d 'Only partitions with fewer replicas in sync than min.insync.replicas asks for'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l fail-if-any -d 'Exit with 4 where a partition is shown: for scripts, with the filters above'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -l json -d 'One JSON object a line, a line a topic'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from describe" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s p -l partitions -d 'Number of partitions [default: the broker\'s num.partitions]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s r -l replication-factor -d 'Replicas of each partition [default: the broker\'s default.replication.factor]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l replica-assignment -d 'Brokers of each partition: 1:2,2:3 puts partition 0 on brokers 1 and 2, partition 1 on 2 and 3' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l config -d 'Set a configuration of the topics; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l if-not-exists -d 'A topic that is there already is no failure'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l validate-only -d 'Only ask the cluster whether it would'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -l json -d 'One JSON object a topic'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s e -l regex -d 'Topics whose whole name matches, by RE2 syntax' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s p -l partitions -d 'Number of partitions afterwards; a topic never loses any' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -l replica-assignment -d 'Brokers of each new partition: 1:2,2:3' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -l internal -d 'Internal topics too, such as __consumer_offsets'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -l validate-only -d 'Only ask the cluster whether it would'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -l json -d 'One JSON object a topic'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from alter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -s e -l regex -d 'Topics whose whole name matches, by RE2 syntax' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -l internal -d 'Internal topics too, such as __consumer_offsets'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -l execute -d 'Do it; without this only what would be deleted is shown'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -l if-exists -d 'A topic that is not there is no failure'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -l json -d 'One JSON object a topic'
complete -c klamm -n "__fish_klamm_using_subcommand topics; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and not __fish_seen_subcommand_from get set unset" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and not __fish_seen_subcommand_from get set unset" -f -a "get" -d 'Show configurations and where each value comes from'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and not __fish_seen_subcommand_from get set unset" -f -a "set" -d 'Set configurations while brokers run'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and not __fish_seen_subcommand_from get set unset" -f -a "unset" -d 'Remove configurations, so that what stands behind them holds again'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -s a -l all -d 'Also keys that nobody has set'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -l json -d 'One JSON object a line, with synonyms and documentation'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -l validate-only -d 'Only ask the cluster whether it would'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -l json -d 'One JSON object for each change: entity, key, operation, value, applied'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -l validate-only -d 'Only ask the cluster whether it would'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -l json -d 'One JSON object for each change: entity, key, operation, value, applied'
complete -c klamm -n "__fish_klamm_using_subcommand configs; and __fish_seen_subcommand_from unset" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and not __fish_seen_subcommand_from get trim" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and not __fish_seen_subcommand_from get trim" -f -a "get" -d 'Look up the offset at a point of partitions'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and not __fish_seen_subcommand_from get trim" -f -a "trim" -d 'Delete the records before an offset, for good'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -l at -d 'earliest, latest, max-timestamp, or a time: the first record at or after it; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -l execute -d 'Do it; without this only what would be deleted is shown'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand offsets; and __fish_seen_subcommand_from trim" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "list" -d 'List groups with their type and state'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "describe" -d 'Describe groups: state, members, and how far they are'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "members" -d 'List the members of groups and what they have'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "lag" -d 'Show how far groups are behind the ends of the logs'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "reset" -d 'Move a group\'s committed offsets'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "delete" -d 'Delete groups, with all that they have committed'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "delete-offsets" -d 'Delete what a group has committed for some partitions'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and not __fish_seen_subcommand_from list describe members lag reset delete delete-offsets export" -f -a "export" -d 'Print what groups have committed, to be kept or moved elsewhere'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -l state -d 'Only groups in these states: stable, empty, dead, preparing-rebalance, …' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -l type -d 'Only groups of these types: classic, consumer, share, streams; simple: offsets that no member committed' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line: group, type, state, protocol_type, coordinator'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -l all -d 'All groups'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -l json -d 'One JSON object a line, a line a group'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from describe" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -l all -d 'All groups'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -l json -d 'One JSON object a line, a line a member'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from members" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l topic -d 'Only these topics and partitions; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l fail-above -d 'Exit with 4 where a group\'s total is above this, or not known' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l watch -d 'Show it again and again, until interrupted or above --fail-above' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l total -d 'One line a group instead of one a partition'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -l json -d 'One JSON object a line: group, topic, partition, current, start, end, lag, member, client, host'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from lag" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to -d 'earliest, latest, current, an offset, or a time: @2026-01-01T00:00:00Z, @-15m' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l shift-by -d 'So many records on, or back where it is negative' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l from-file -d 'What \'klamm groups export\' wrote, or Kafka\'s CSV; - for standard input' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to-offset -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to-datetime -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l by-duration -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l all-topics -d 'All partitions that the group has committed offsets for'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to-earliest
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to-latest
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l to-current
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l execute -d 'Do it; without this only what would change is shown'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l dry-run -d 'Kafka\'s name for leaving out --execute'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -l csv -d 'Kafka\'s CSV: topic,partition,offset'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -l execute -d 'Do it; without this only what would be deleted is shown'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -l execute -d 'Do it; without this only what would be deleted is shown'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -l json -d 'One JSON object a line'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from delete-offsets" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -l topic -d 'Only these topics and partitions; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -l all -d 'All groups'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -l csv -d 'Kafka\'s CSV instead: topic,partition,offset, the group before them where there are several'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -l json -d 'One JSON object a line, as without it'
complete -c klamm -n "__fish_klamm_using_subcommand groups; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -l broker -d 'Only these brokers [default: all]' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -s p -l partitions -d 'A line for each partition instead of one for each directory'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -l json -d 'One JSON object a line, a line a directory'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and not __fish_seen_subcommand_from move" -a "move" -d 'Move partitions to another log directory of their broker, while they are used'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -l broker -d 'The broker whose replicas are meant; needed where there are several' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -l no-wait -d 'Do not wait for the end'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -l json -d 'One JSON object for each partition: topic, partition, broker, directory, moved'
complete -c klamm -n "__fish_klamm_using_subcommand log-dirs; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and not __fish_seen_subcommand_from plan run status cancel" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and not __fish_seen_subcommand_from plan run status cancel" -f -a "plan" -d 'Plan where partitions go: the least that must move'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and not __fish_seen_subcommand_from plan run status cancel" -f -a "run" -d 'Carry out a reassignment, and wait until it is done'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and not __fish_seen_subcommand_from plan run status cancel" -f -a "status" -d 'Show what is being reassigned, how much is left, and what it waits for'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and not __fish_seen_subcommand_from plan run status cancel" -f -a "cancel" -d 'Give up reassignments that are under way: partitions stay where they were'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s r -l replication-factor -d 'Give each partition so many replicas' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -l decommission -d 'Leave nothing on this broker; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -l brokers -d 'Use these brokers only [default: all]' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -l balance -d 'Even out what could stay as well'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -l ignore-racks -d 'Do not look at racks'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s q -l quiet -d 'Only the JSON, nothing on stderr'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l throttle -d 'Limit the copying to so many bytes a second on each broker' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l rollback -d 'Write what undoes it to a new file, as the same JSON, before anything is changed' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l give-up-after -d 'Wait no longer than this' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l preserve-throttles -d 'Leave throttles as they are at the end'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l no-wait -d 'Do not wait for the end; a throttle then stays'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -l json -d 'One JSON object a line for each partition that is done: topic, partition, replicas, moved'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -l json -d 'One JSON object a line: topic, partition, state, replicas, adding, removing, size_bytes, left_bytes, waits_for'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -l all -d 'All that is under way'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -l execute -d 'Do it; without this only what would be given up is shown'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -l preserve-throttles -d 'Leave throttles as they are'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -l json -d 'One JSON object a line: topic, partition, replicas, cancelled'
complete -c klamm -n "__fish_klamm_using_subcommand reassign; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "nodes" -d 'Show the nodes of the cluster: address, rack, whether the cluster counts on them, what they are'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "quorum" -d 'Show the quorum: leader, voters, observers, and how far each is behind'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "add-voter" -d 'Give a controller a vote'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "remove-voter" -d 'Take a controller\'s vote away'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "features" -d 'Show features: the level that the cluster works at, and what its brokers can'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "set-feature" -d 'Raise or lower the level of a feature, for the whole cluster'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "elect-leaders" -d 'Have partitions led by their preferred leaders again'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and not __fish_seen_subcommand_from nodes quorum add-voter remove-voter features set-feature elect-leaders unregister" -f -a "unregister" -d 'Remove a broker that is gone for good from the cluster\'s registrations'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -l fail-if-fenced -d 'Exit with 4 where a broker is fenced'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -l json -d 'One JSON object a line: node, host, port, rack, state, fenced, quorum, replicas, leaders'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from nodes" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -l fail-above -d 'Exit with 4 where a voter is behind by more than so many records' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -l json -d 'One JSON object a line: node, role, directory, end_offset, lag, last_fetch_ms, last_caught_up_ms, leader_epoch, high_watermark'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from quorum" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -l directory -d 'The id of its directory, as \'klamm cluster quorum\' shows it [default: the one it is an observer with]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -l listener -d 'Where the other voters reach it; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -l json -d 'One JSON object: node, directory, voter'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from add-voter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -l directory -d 'The id of its directory [default: the one it is a voter with]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -l execute -d 'Do it; without this only what would be done is shown'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -l json -d 'One JSON object: node, directory, voter'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from remove-voter" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -l json -d 'One JSON object a line: feature, level, min, max, brokers'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from features" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -l downgrade -d 'Allow lower levels'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -l unsafe-downgrade -d 'Allow lower levels that lose metadata'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -l execute -d 'Do it; without this the controller is only asked whether it would'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -l json -d 'One JSON object a line: feature, level, applied'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from set-feature" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -l unclean -d 'Give partitions without a leader one that is not in sync; acknowledged records are lost'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -l execute -d 'Do it, where that loses records; without --unclean it is done anyway'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -l json -d 'One JSON object a line for each partition that is led by another now: topic, partition, elected'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from elect-leaders" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -s d -l dir -d 'A log directory, klamm\'s or Apache Kafka\'s, instead of a server [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -s X -d 'Set a client property by its Java name or librdkafka\'s' -r
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -l execute -d 'Do it; without this only what would be done is shown'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -l json -d 'One JSON object: broker, replicas, unregistered'
complete -c klamm -n "__fish_klamm_using_subcommand cluster; and __fish_seen_subcommand_from unregister" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and not __fish_seen_subcommand_from produce consume latency" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and not __fish_seen_subcommand_from produce consume latency" -f -a "produce" -d 'Send batches as fast as the broker takes them'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and not __fish_seen_subcommand_from produce consume latency" -f -a "consume" -d 'Read as fast as the broker sends'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and not __fish_seen_subcommand_from produce consume latency" -f -a "latency" -d 'Measure how long answers take, one at a time or at a fixed rate'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s c -l connections -d 'Sockets, each with a thread of its own' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s t -l duration -d 'Run for so long, not counting the warm-up [default: 10s, unless another end is given]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l warm-up -d 'Run for so long before anything is counted' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l warm-memory -d 'Touch so much memory first and give it back: on virtual machines fresh memory costs more than a broker' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l pid -d 'Report the processor time and memory of this process, the broker; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s d -l dir -d 'Measure a broker in this process on a log directory [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s n -l records -d 'End after so many records over all connections, rounded up to whole batches' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l batch -d 'Records in a batch; a request holds one batch' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s s -l record-size -d 'Bytes in a record\'s value' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l key-size -d 'Bytes in a record\'s key; 0 is no key' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l depth -d 'Requests under way on each connection' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s z -l compression -d 'Compress batches: none, gzip, snappy, lz4, zstd (once, beforehand)' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s a -l acks -d 'Whose word counts: 0 nobody\'s, 1 the leader\'s, all every replica in sync' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l json -d 'One JSON object'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -l idempotent -d 'Send as an idempotent producer: the broker checks every batch\'s sequence'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from produce" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -s c -l connections -d 'Sockets, each with a thread of its own' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -s t -l duration -d 'Run for so long, not counting the warm-up [default: 10s, unless another end is given]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l warm-up -d 'Run for so long before anything is counted' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l warm-memory -d 'Touch so much memory first and give it back: on virtual machines fresh memory costs more than a broker' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l pid -d 'Report the processor time and memory of this process, the broker; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -s d -l dir -d 'Measure a broker in this process on a log directory [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l max-bytes -d 'Ask for so many bytes of a partition at once' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l min-bytes -d 'Let the broker wait until it has so many bytes' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l max-wait -d 'Let the broker wait for so long' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l json -d 'One JSON object'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l repeat -d 'Begin again at the end, until the duration is over'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -l verify -d 'Check the CRC of every batch'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from consume" -s h -l help -d 'Print help'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s c -l connections -d 'Sockets, each with a thread of its own' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s t -l duration -d 'Run for so long, not counting the warm-up [default: 10s, unless another end is given]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l warm-up -d 'Run for so long before anything is counted' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l warm-memory -d 'Touch so much memory first and give it back: on virtual machines fresh memory costs more than a broker' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l pid -d 'Report the processor time and memory of this process, the broker; may be repeated' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s b -l bootstrap -d 'Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s d -l dir -d 'Measure a broker in this process on a log directory [env: KLAMM_DIR]' -r -F
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l timeout -d 'Give up when no broker answers for this long' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l rate -d 'Requests a second over all connections, sent when they are due; without it, one after the other' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l batch -d 'Records in a batch; a request holds one batch' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s s -l record-size -d 'Bytes in a record\'s value' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s a -l acks -d 'Whose word counts: 1 the leader\'s, all every replica in sync' -r
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l json -d 'One JSON object'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l end-to-end -d 'Also measure how long a record takes to a reader that waits for it'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -l idempotent -d 'Send as an idempotent producer'
complete -c klamm -n "__fish_klamm_using_subcommand bench; and __fish_seen_subcommand_from latency" -s h -l help -d 'Print help'
