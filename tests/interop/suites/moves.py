"""Partitions between the log directories of a broker: Kafka's tools on ours, our command on either."""

import json

from harness import expect, expect_in, klamm_out, run_klamm, wait_until

LINES = "".join(f"line {number}\n" for number in range(20000))


def replicas(tools, to, topic):
    """Directory and whether it is a future one, of each log of the topic's one partition."""
    described = json.loads(tools.out("log-dirs", *to, "--describe", "--topic-list", topic).splitlines()[-1])
    dirs = described["brokers"][0]["logDirs"]
    return sorted((dir["logDir"], partition["isFuture"]) for dir in dirs for partition in dir["partitions"])


def everything(to, topic):
    return klamm_out("consume", topic, "-e", "-b", to[1]).decode()


def by_kafkas_tool(tools, to, dirs, folder):
    klamm_out("produce", "handed", "-b", to[1], given=LINES)
    ((here, _),) = replicas(tools, to, "handed")
    (there,) = [path for path in dirs if path != here]
    plan = folder / "plan.json"
    wish = {"topic": "handed", "partition": 0, "replicas": [1], "log_dirs": [there]}
    plan.write_text(json.dumps({"version": 1, "partitions": [wish]}))
    with_plan = ("--reassignment-json-file", plan)
    out = tools.out("reassign-partitions", *to, *with_plan, "--execute")
    expect_in("execute", f"Successfully started moving log directory to {there} for replica handed-0", out)
    wait_until("the partition is there", lambda: replicas(tools, to, "handed") == [(there, False)], 30)
    out = tools.out("reassign-partitions", *to, *with_plan, "--verify")
    expect_in("verify", "Reassignment of replica handed-0-1 completed successfully", out)
    expect("content", everything(to, "handed") == LINES, True)


def by_our_command(tools, to, dirs):
    klamm_out("produce", "carried", "-b", to[1], given=LINES)
    ((here, _),) = replicas(tools, to, "carried")
    for there in [path for path in dirs if path != here] + [here]:
        out = klamm_out("log-dirs", "move", f"carried:0={there}", "--json", "-b", to[1])
        expect("moved", [json.loads(line)["moved"] for line in out.splitlines()], [True])
        expect("directory", replicas(tools, to, "carried"), [(there, False)])
        expect("content", everything(to, "carried") == LINES, True)
    code, _, err = run_klamm("log-dirs", "move", "carried:0=/nowhere", "-b", to[1])
    expect("a directory that is none: exit code", code, 1)
    expect_in("a directory that is none", dirs[0], err.decode())


def cases(world, book):
    dirs = [str(world.folder / "moves-one"), str(world.folder / "moves-two")]
    if world.target == "klamm":
        broker = world.broker(name="moves-one", args=("-d", dirs[1]))
        dirs[0] = str(broker.log_dir)
    else:
        broker = world.broker(name="moves", args=("--standalone", "--set", "log.dirs=" + ",".join(dirs)))
    to = ("--bootstrap-server", broker.bootstrap)
    tools = world.tools()
    book.case("kafka-reassign-partitions moves a partition to another directory", by_kafkas_tool, tools, to, dirs, world.folder)
    book.case("klamm log-dirs move, there and back", by_our_command, tools, to, dirs)
