"""kafka-dump-log and `klamm dump-segment` print the same lines, for directories that either broker wrote in this run.

It ends the brokers that the others shared, and reads what these made there: it comes last.
"""

import shutil

from harness import CODECS, Mismatch, expect, run_klamm
from suites.clients import records_for

DECODERS = {
    "__consumer_offsets": "--offsets-decoder",
    "__transaction_state": "--transaction-log-decoder",
    "__cluster_metadata": "--cluster-metadata-decoder",
}
# Partitions of the topics that other suites made are enough of the same.
PARTITIONS_MAX = 60


def options_for(path):
    decoder = next((option for topic, option in DECODERS.items() if path.parent.name.startswith(topic)), None)
    if path.suffix == ".log":
        yield []
        yield ["--print-data-log"]
        if decoder:
            yield [decoder]
    elif path.suffix == ".checkpoint" and path.name[0].isdigit():
        yield []
        yield ["--cluster-metadata-decoder"]
    elif path.suffix in (".index", ".timeindex", ".txnindex", ".snapshot"):
        yield []


def compare(world, partition):
    differences = []
    count = 0
    for path in sorted(partition.iterdir()):
        if path.suffix in (".index", ".timeindex") and path.stat().st_size == 0:
            continue
        for options in options_for(path):
            _, theirs, _ = world.tools().run("dump-log", "--files", path, *options)
            _, ours, error = run_klamm("dump-segment", path, *options)
            count += 1
            ours = ours.decode(errors="replace")
            if ours != theirs:
                differences.append(f"{path.parent.name}/{path.name} {' '.join(options)}: {first_difference(theirs, ours)} {error.decode()[-200:]}")
    if differences:
        raise Mismatch(f"{len(differences)} of {count} differ\n    " + "\n    ".join(differences[:5]))
    expect("compared something", count > 0, True)


def first_difference(theirs, ours):
    for number, (left, right) in enumerate(zip(theirs.splitlines() + ["(end)"], ours.splitlines() + ["(end)"]), 1):
        if left != right:
            return f"line {number}\n      kafka {left[:400]}\n      klamm {right[:400]}"
    return "line ends"


def complains(world, path):
    """Whether kafka-dump-log finds anything wrong with a file."""
    _, out, err = world.tools().run("dump-log", "--files", path)
    said = out + (err.decode(errors="replace") if isinstance(err, bytes) else err)
    return any(word in said for word in ("isvalid: false", "invalid bytes", "Mismatches in", "timestamp mismatch", "not found in", "is corrupt", "Exception"))


def agree(world, directory):
    """`klamm verify` and kafka-dump-log find nothing in a directory, and both find what is changed in it."""
    code, out, err = run_klamm("verify", directory, "-q")
    expect(f"verify: {out.decode()[:600]} {err.decode()[:200]}", code, 0)
    logs = sorted((path for path in directory.glob("*-0/*.log") if path.stat().st_size > 200), key=lambda path: path.stat().st_size)
    indexes = [path for path in directory.glob("*-0/*.index") if path.stat().st_size]
    for path in logs[:3] + indexes[:3]:
        expect(f"kafka-dump-log about {path.parent.name}/{path.name}", complains(world, path), False)
        sound = path.read_bytes()
        # In the records of the first batch, or the position of the first entry.
        place = 100 if path.suffix == ".log" else 7
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1:])
        code, out, _ = run_klamm("verify", path.parent, "-q")
        expect(f"verify about a flipped bit of {path.parent.name}/{path.name}: {out.decode()[:300]}", code, 3)
        expect(f"kafka-dump-log about a flipped bit of {path.parent.name}/{path.name}", complains(world, path), True)
        path.write_bytes(sound)


def cases(world, book):
    for kind in ("kafka", "klamm"):
        if kind == "klamm" and world.target != "klamm":
            continue
        broker = world.shared(kind)
        bootstrap = broker.bootstrap
        for codec in CODECS:
            world.client("java", bootstrap).produce(
                topic=f"dumped-{codec}", records=records_for("java"), codec=codec, idempotent=codec != "none")
        world.end_shared(kind)
        copy = world.folder / f"dumped-{kind}"
        shutil.copytree(broker.log_dir, copy)
        book.case(f"verify and kafka-dump-log agree about a directory by {kind}", agree, world, copy)
        partitions = [path for path in sorted(copy.iterdir()) if path.is_dir() and any(path.glob("*.log"))]
        filled = [path for path in partitions if sum(file.stat().st_size for file in path.glob("*.log"))]
        for partition in filled[:PARTITIONS_MAX]:
            book.case(f"{partition.name} by {kind}", compare, world, partition)
