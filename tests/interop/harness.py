"""What the suites share: the broker under test, drivers of clients, Kafka's tools, and the book of results."""

import base64
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KAFKA = HERE / "peers/kafka"
PEERS_HOME = Path(os.environ.get("PEERS_HOME", Path.home() / ".cache/klamm-peers"))
sys.path.insert(0, str(HERE / "drivers"))

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Mismatch(Exception):
    pass


def expect(what, got, expected):
    if got != expected:
        raise Mismatch(f"{what}\n    expected {shorten(expected)}\n    got      {shorten(got)}")


def expect_in(what, part, whole):
    if part not in whole:
        raise Mismatch(f"{what}\n    expected it to contain {part!r}\n    got {shorten(whole)}")


def shorten(value, length=1200):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= length else f"{text[:length // 2]} … {text[-length // 2:]}"


class Book:
    """Runs cases and counts them. A suite that cannot run is a failed case with its reason."""

    def __init__(self, only):
        self.only = only
        self.passed = 0
        self.failures = []
        self.suite = None

    def case(self, name, call, *args, **named):
        full = f"{self.suite}: {name}"
        if self.only and not any(word in full for word in self.only):
            return None
        began = time.monotonic()
        try:
            result = call(*args, **named)
        except Exception as error:  # noqa: BLE001 a case fails by raising anything
            where = "" if isinstance(error, (Mismatch, DriverError)) else traceback.format_exc(limit=-3)
            self.fail(full, f"{error}\n{where}".rstrip())
            return None
        self.passed += 1
        print(f"ok      {full} ({time.monotonic() - began:.1f} s)", flush=True)
        return result if result is not None else True

    def fail(self, full, why):
        self.failures.append(full)
        print(f"FAILED  {full}\n    {why}", flush=True)


class DriverError(Exception):
    pass


class LineProcess:
    """A process that answers each line of JSON with a line of JSON."""

    def __init__(self, command, **options):
        self.command = [str(word) for word in command]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, start_new_session=True, **options)
        self.answers = queue.Queue()
        self.talk = []
        threading.Thread(target=self.pump, args=(self.process.stdout, self.answers.put), daemon=True).start()
        threading.Thread(target=self.pump, args=(self.process.stderr, self.talk.append), daemon=True).start()

    @staticmethod
    def pump(stream, put):
        for line in stream:
            put(line)

    def call(self, request, seconds=60):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            deadline = time.monotonic() + seconds
            while True:
                try:
                    line = self.answers.get(timeout=0.2)
                except queue.Empty:
                    if self.process.poll() is not None:
                        raise DriverError(f"{self.command[0]} ended ({self.process.returncode}): {''.join(self.talk[-8:])}") from None
                    if time.monotonic() > deadline:
                        self.close()
                        raise DriverError(f"no answer within {seconds} s; it said: {''.join(self.talk[-8:])}") from None
                    continue
                if line.startswith("{"):
                    return json.loads(line)
        except BrokenPipeError:
            raise DriverError(f"{' '.join(self.command)} has ended: {''.join(self.talk[-8:])}") from None

    def close(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Driver:
    """A client library in its own process: produce, consume and admin, each one line there and one line back."""

    def __init__(self, command, **options):
        self.process = LineProcess(command, **options)

    def __getattr__(self, op):
        def call(**request):
            answer = self.process.call({"op": op, **request}, seconds=120)
            if "error" in answer:
                raise DriverError(answer["error"])
            return answer
        return call

    def has_ended(self):
        return self.process.process.poll() is not None

    def close(self):
        self.process.close()


class KafkaTools:
    """Kafka's own command-line tools, many in one JVM."""

    PACKAGE = "org.apache.kafka.tools."
    CLASSES = {
        "acls": "AclCommand", "broker-api-versions": "BrokerApiVersionsCommand", "cluster": "ClusterTool", "console-consumer": "consumer.ConsoleConsumer",
        "console-producer": "ConsoleProducer", "consumer-groups": "consumer.group.ConsumerGroupCommand", "delete-records": "DeleteRecordsCommand", "dump-log": "DumpLogSegments",
        "leader-election": "LeaderElectionCommand", "metadata-quorum": "MetadataQuorumCommand",
        "features": "FeatureCommand", "get-offsets": "GetOffsetShell", "log-dirs": "LogDirsCommand",
        "producer-perf-test": "ProducerPerformance", "reassign-partitions": "reassign.ReassignPartitionsCommand",
        "replica-verification": "ReplicaVerificationTool",
        "topics": "TopicCommand", "transactions": "TransactionsCommand", "verifiable-producer": "VerifiableProducer",
    }

    def __init__(self, cwd=ROOT):
        self.process = LineProcess([KAFKA, "tools"], cwd=cwd)

    def run(self, tool, *args, given="", seconds=60):
        """Exit code, stdout, stderr."""
        elsewhere = {"configs": "kafka.admin.ConfigCommand", "metadata-shell": "org.apache.kafka.shell.MetadataShell"}
        name = elsewhere.get(tool) or self.PACKAGE + self.CLASSES[tool]
        request = {"class": name, "args": [str(arg) for arg in args], "stdin": given, "seconds": seconds}
        answer = self.process.call(request, seconds + 10)
        return answer["code"], *(base64.b64decode(answer[part]).decode(errors="replace") for part in ("out", "err"))

    def out(self, tool, *args, **options):
        code, out, err = self.run(tool, *args, **options)
        if code != 0:
            raise Mismatch(f"kafka-{tool} {' '.join(map(str, args))}: exit {code}\n    {shorten(out + err)}")
        return out

    def listed_of_snapshot(self, snapshot, path):
        """What Kafka's metadata shell lists. It reads on a thread that it does not wait for, so that it may list nothing, or
        never end: then it is asked again."""
        for _ in range(10):
            code, out, err = self.run("metadata-shell", "--snapshot", snapshot, "ls", path, seconds=30)
            if code == 0 and out.strip():
                return out
        raise Mismatch(f"kafka-metadata-shell --snapshot {snapshot} ls {path}: exit {code}\n    {shorten(out + err)}")

    def close(self):
        self.process.close()


class KlammBroker:
    """`klamm serve` on a directory."""

    name = "klamm"

    def __init__(self, directory, *args, port=0):
        self.directory = Path(directory)
        self.log = open(f"{directory}.out", "ab")
        self.process = subprocess.Popen(
            [klamm(), "serve", "-d", self.directory, "--listen", f"127.0.0.1:{port}", *args],
            stdout=subprocess.PIPE, stderr=self.log, start_new_session=True, text=True)
        line = read_line(self.process, 20)
        if not line.startswith("ready "):
            self.kill()
            raise Mismatch(f"klamm serve: no ready line but {line!r}; {tail(f'{directory}.out')}")
        fields = dict(word.split("=", 1) for word in line.split()[1:])
        self.bootstrap = fields["listener"].split(",")[0]
        self.log_dir = self.directory

    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Mismatch("klamm serve did not end within 20 s of SIGTERM") from None
        expect("exit code after SIGTERM", code, 0)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class KafkaBroker:
    """Apache Kafka on a directory: its logs are in DIR/1."""

    name = "kafka"

    def __init__(self, directory, *args, port=0):
        self.directory = Path(directory)
        self.log_dir = self.directory / "1"
        env = {"KAFKA_HEAP": "-Xmx512m -Xms256m", "KAFKA_WAIT": "90", **os.environ}
        done = subprocess.run([KAFKA, "start", self.directory, "--port", str(port or free_ports(2)), *args],
                              capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise Mismatch(f"Apache Kafka did not start: {shorten(done.stderr)}")
        self.bootstrap = done.stdout.strip()

    def pid(self):
        return int((self.directory / "1.pid").read_text())

    def stop(self):
        subprocess.run([KAFKA, "stop", self.directory], check=True, capture_output=True)

    def kill(self):
        subprocess.run([KAFKA, "kill", self.directory], check=True, capture_output=True)


BROKERS = {"klamm": KlammBroker, "kafka": KafkaBroker}


def klamm():
    return os.environ.get("KLAMM", str(ROOT / "target/release/klamm"))


def run_klamm(*args, given=b"", seconds=60, cwd=ROOT):
    """Exit code, stdout, stderr: as bytes."""
    given = given.encode() if isinstance(given, str) else given
    done = subprocess.run([klamm(), *map(str, args)], input=given, capture_output=True, timeout=seconds, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def klamm_out(*args, **options):
    code, out, err = run_klamm(*args, **options)
    if code != 0:
        raise Mismatch(f"klamm {' '.join(map(str, args))}: exit {code}\n    {shorten(err.decode(errors='replace'))}")
    return out


def read_line(process, seconds):
    lines = queue.Queue()
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return ""


def tail(path, size=600):
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")[-size:]
    return ""


def free_ports(count=1):
    """The first of `count` neighbouring ports that are free now. They lie below those that the kernel gives to
    outgoing connections: one of those could take it before a JVM has started."""
    while True:
        first = random.randrange(15_000, 32_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first


def wait_until(what, holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Mismatch(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class World:
    """Where suites live: a temporary folder, the broker under test, drivers that are started once."""

    def __init__(self, target):
        self.target = target
        self.folder = Path(tempfile.mkdtemp(prefix="klamm-interop-"))
        self.running = []
        self.kept = {}

    def broker(self, kind=None, name=None, args=(), port=0):
        """A broker of its own, stopped at the end of the run."""
        kind = kind or self.target
        name = name or f"{kind}-{len(self.running)}"
        broker = BROKERS[kind](self.folder / name, *args, port=port)
        self.running.append(broker)
        return broker

    def once(self, name, make):
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def shared(self, kind=None):
        """One broker for all suites that do not mind others."""
        kind = kind or self.target
        return self.once(f"shared {kind}", lambda: self.broker(kind, f"shared-{kind}-{len(self.running)}"))

    def end_shared(self, kind):
        """Stops that broker, for a suite that needs its directory at rest; the next to ask for it gets a new one."""
        broker = self.shared(kind)
        del self.kept[f"shared {kind}"]
        broker.stop()

    def has(self, client):
        """Whether this machine can run the client at all. Only Go's are not fetched, and klamm may not be built
        while the suites test themselves against Kafka."""
        if client in ("franz", "sarama"):
            found = shutil.which("go")
        elif client == "klamm":
            found = self.target == "klamm" or os.access(klamm(), os.X_OK)
        else:
            found = True
        if not found:
            print(f"SKIPPED  {client}: not on this machine", flush=True)
        return bool(found)

    def tools(self):
        return self.once("tools", KafkaTools)

    def client(self, name, bootstrap):
        key = f"client {name} {bootstrap}"
        if isinstance(self.kept.get(key), Driver) and self.kept[key].has_ended():
            del self.kept[key]
        return self.once(key, lambda: self.make_client(name, bootstrap))

    def make_client(self, name, bootstrap):
        import command_clients

        python = PEERS_HOME / "python/bin/python"
        drivers = HERE / "drivers"
        if name in ("confluent", "kafka-python", "aiokafka"):
            return Driver([python, drivers / "python_clients.py", name, bootstrap])
        if name in ("kafkajs", "platformatic"):
            env = {**os.environ, "NODE_HOME": str(PEERS_HOME / "node"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
            return Driver(["node", drivers / "node_clients.mjs", name, bootstrap], env=env)
        if name in ("franz", "sarama"):
            return Driver([self.once("go", self.build_go), name, bootstrap])
        if name == "java":
            return Driver([KAFKA, "java", drivers / "JavaClient.java", bootstrap])
        if name == "kcat":
            return command_clients.Kcat(bootstrap)
        if name == "klamm":
            return command_clients.Klamm(bootstrap, klamm())
        raise ValueError(name)

    def build_go(self):
        binary = PEERS_HOME / "go-clients"
        done = subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE / "drivers/go", capture_output=True, text=True)
        if done.returncode != 0:
            raise DriverError(f"go build: {shorten(done.stderr)}")
        return binary

    def close(self):
        for kept in self.kept.values():
            if isinstance(kept, (Driver, KafkaTools)):
                kept.close()
        for broker in self.running:
            with contextlib.suppress(Exception):
                broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
