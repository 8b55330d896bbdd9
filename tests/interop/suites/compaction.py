"""Compaction beside Apache Kafka's own cleaner: the same log, cleaned by both, holds the same records, batch for batch.

Kafka writes a log with its cleaner off: keys, tombstones, idempotent producers, transactions that commit and abort, every
codec. Copies of its directory are cleaned by Kafka and by klamm; then each reads what the other has cleaned."""

import re
import shutil
import subprocess

from harness import HERE, KAFKA, KafkaBroker, KlammBroker, Mismatch, expect, klamm_out, wait_until

TOPIC = "compacted"
SETTINGS = ["cleanup.policy=compact", "internal.segment.bytes=6000", "delete.retention.ms=0", "min.cleanable.dirty.ratio=0.0001",
            "segment.index.bytes=4096", "index.interval.bytes=1000"]
EAGER = ["--set", "log.cleaner.backoff.ms=100"]
FIELDS = re.compile(r"baseOffset: (\d+) lastOffset: (\d+) count: (\d+) baseSequence: (-?\d+) lastSequence: (-?\d+) producerId: (-?\d+) "
                    r"producerEpoch: (-?\d+) partitionLeaderEpoch: (\d+) isTransactional: (\w+) isControl: (\w+) deleteHorizonMs: (\S+)")


def java(*args):
    done = subprocess.run([KAFKA, "java", HERE / "drivers/Compaction.java", *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Mismatch(f"Compaction {args}: {done.stderr[-1500:]}")
    return done.stdout.splitlines()


def segments(log_dir):
    return sorted((log_dir / f"{TOPIC}-0").glob("*.log"))


def is_clean(log_dir):
    """Everything in front of the active segment."""
    active = int(segments(log_dir)[-1].stem)
    checkpoint = log_dir / "cleaner-offset-checkpoint"
    return checkpoint.exists() and f"{TOPIC} 0 {active}" in checkpoint.read_text().splitlines()


def batches(world, log_dir):
    """What Kafka's own tool says of each batch, but for sizes, checksums and times. It accepts every file."""
    found = []
    for segment in segments(log_dir):
        said = world.tools().out("dump-log", "--deep-iteration", "--files", segment)
        for word in ("isvalid: false", "recover", "xception"):
            if word in said:
                raise Mismatch(f"kafka-dump-log of {segment.name}: {said[-800:]}")
        for match in FIELDS.finditer(said):
            *fields, horizon = match.groups()
            found.append((segment.name, *fields, horizon != "OptionalLong.empty"))
    if not any(batch[3] == "0" for batch in found) or not any(batch[-1] for batch in found):
        raise Mismatch(f"no empty batch or no delete horizon among {len(found)} batches: the log shows too little")
    return found


def last_values(lines):
    last = {}
    for line in lines:
        _, key, value = line.split(" ")
        last[key] = value
    return {key: value for key, value in last.items() if value != "-"}


def compare(world, seed):
    folder = world.folder / f"compaction-{seed}"
    folder.mkdir()
    source = KafkaBroker(folder / "source", "--standalone", "--set", "log.cleaner.enable=false")
    world.running.append(source)
    config = [word for setting in SETTINGS for word in ("--config", setting)]
    world.tools().out("topics", "--bootstrap-server", source.bootstrap, "--create", "--topic", TOPIC, "--partitions", 1, *config)
    java("write", source.bootstrap, TOPIC, seed, 300)
    before = java("read", source.bootstrap, TOPIC)
    source.stop()
    for name in ("kafka", "klamm"):
        (folder / name).mkdir()
        shutil.copytree(folder / "source/1", folder / name / "1")
    cleaned, held = {}, {}
    for name in ("kafka", "klamm"):
        broker = clean_with(name, folder / name, world)
        cleaned[name] = java("read", broker.bootstrap, TOPIC)
        broker.stop()
        # More of the same, so that a second round meets horizons that have passed; written with the cleaner off, so that it
        # is one round for both.
        broker = start(name, folder / name, world, "--set", "log.cleaner.enable=false")
        java("write", broker.bootstrap, TOPIC, seed + 1, 60, "no-transactions")
        broker.stop()
        broker = clean_with(name, folder / name, world)
        cleaned[f"{name} again"] = java("read", broker.bootstrap, TOPIC)
        broker.stop()
        held[name] = batches(world, folder / name / "1")
    expect("the last value of each key", last_values(cleaned["kafka"]), last_values(before))
    expect("the last value of each key", last_values(cleaned["klamm"]), last_values(before))
    if len(cleaned["klamm"]) > len(before) / 3:
        raise Mismatch(f"{len(cleaned['klamm'])} of {len(before)} records are left")
    expect("records after one round", cleaned["klamm"], cleaned["kafka"])
    expect("records after two rounds", cleaned["klamm again"], cleaned["kafka again"])
    # Producer ids, epochs and leader epochs are each broker's own.
    identity = [[(*batch[:6], *batch[9:]) for batch in held[name]] for name in ("klamm", "kafka")]
    differ = sorted(set(identity[0]) ^ set(identity[1]))
    expect("batches after two rounds that one of them alone has", differ, [])
    change_hands(folder, cleaned, world)


def start(name, folder, world, *settings):
    if name == "kafka":
        broker = KafkaBroker(folder, "--standalone", "--adopt", *settings)
    else:
        broker = KlammBroker(folder / "1", *settings)
    world.running.append(broker)
    return broker


def clean_with(name, folder, world):
    broker = start(name, folder, world, *EAGER)
    wait_until(f"{name} cleans", lambda: is_clean(folder / "1"), 60)
    return broker


def change_hands(folder, cleaned, world):
    """Each broker serves, and each command reads, what the other has cleaned."""
    klamm = KlammBroker(folder / "kafka/1", "--set", "log.cleaner.enable=false")
    world.running.append(klamm)
    expect("klamm on Kafka's directory", java("read", klamm.bootstrap, TOPIC), cleaned["kafka again"])
    klamm.stop()
    kafka = KafkaBroker(folder / "klamm", "--standalone", "--adopt", "--set", "log.cleaner.enable=false")
    world.running.append(kafka)
    expect("Kafka on klamm's directory", java("read", kafka.bootstrap, TOPIC), cleaned["klamm again"])
    kafka.stop()
    for name in ("kafka", "klamm"):
        read = klamm_out("consume", TOPIC, "-e", "-d", folder / name / "1", "-f", "%o %k\n").decode().splitlines()
        expect(f"klamm consume -d on {name}'s directory", read, [line.rsplit(" ", 1)[0] for line in cleaned[f"{name} again"]])


def cases(world, book):
    for seed in (11, 12):
        book.case(f"a log cleaned by both, seed {seed}", compare, world, seed)
