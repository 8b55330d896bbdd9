"""kafka-dump-log and `klamm dump-segment` print the same lines, for directories that either broker wrote in this run.

This suite ends the brokers that the others shared: it comes last.
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


def cases(world, book):
    for kind in ("kafka", "klamm"):
        if kind == "klamm" and world.target != "klamm":
            continue
        broker = world.shared(kind)
        bootstrap = broker.bootstrap
        for codec in CODECS:
            world.client("java", bootstrap).produce(
                topic=f"dumped-{codec}", records=records_for("java"), codec=codec, idempotent=codec != "none")
        broker.stop()
        copy = world.folder / f"dumped-{kind}"
        shutil.copytree(broker.log_dir, copy)
        partitions = [path for path in sorted(copy.iterdir()) if path.is_dir() and any(path.glob("*.log"))]
        filled = [path for path in partitions if sum(file.stat().st_size for file in path.glob("*.log"))]
        for partition in filled[:PARTITIONS_MAX]:
            book.case(f"{partition.name} by {kind}", compare, world, partition)
