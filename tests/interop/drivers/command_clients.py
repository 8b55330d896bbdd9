"""Command lines behind the same protocol as the client libraries: kcat, and klamm's own produce and consume."""

import base64
import json
import subprocess
import time

# What one request changed another may show a moment later: Kafka's brokers follow the controller.
SETTLE_SECONDS = 0.3


def decode(text):
    return None if text is None else base64.b64decode(text)


def run(command, given=b"", seconds=30):
    done = subprocess.run(command, input=given, capture_output=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout


class Kcat:
    """Debian's kcat: one fixed set of headers a call, no timestamps, keys and values that hold no separator."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def produce(self, topic, records, codec="none", idempotent=False):
        by_headers = {}
        for record in records:
            headers = tuple((name, value) for name, value in record["headers"])
            by_headers.setdefault((record["partition"], headers), []).append(record)
        for (partition, headers), group in by_headers.items():
            command = ["kcat", "-P", "-b", self.bootstrap, "-t", topic, "-K", "\x1e", "-D", "\x1f", "-Z",
                       "-X", f"compression.codec={codec}", "-X", f"enable.idempotence={str(idempotent).lower()}",
                       "-X", "topic.partitioner=murmur2_random", "-X", "message.timeout.ms=15000"]
            if partition is not None:
                command += ["-p", str(partition)]
            for name, value in headers:
                command += ["-H", name if value is None else f"{name}={decode(value).decode()}"]
            lines = [(decode(r["key"]) or b"") + b"\x1e" + (decode(r["value"]) or b"") for r in group]
            run(command, b"\x1f".join(lines))
        return {}

    def consume(self, topic, partition, count, offset=0):
        # Sizes come first, so that keys and values may hold anything. kcat prints header values as text.
        out = run(["kcat", "-C", "-q", "-b", self.bootstrap, "-t", topic, "-p", str(partition), "-o", str(offset),
                   "-c", str(count), "-X", "check.crcs=true", "-f", "%o %T %K %S %h\n%k%s\n"])
        records = []
        while out:
            head, out = out.split(b"\n", 1)
            at, timestamp, key_size, value_size, headers = head.split(b" ", 4)
            parts = []
            for size in (int(key_size), int(value_size)):
                parts.append(None if size < 0 else base64.b64encode(out[:size]).decode())
                out = out[max(size, 0):]
            out = out[1:]
            records.append({"offset": int(at), "timestamp": int(timestamp), "key": parts[0], "value": parts[1],
                            "headers_text": headers.decode()})
        return {"records": records}

    def list(self):
        return json.loads(run(["kcat", "-L", "-J", "-b", self.bootstrap]))


class Klamm:
    """Our own commands, JSON in and out, so that any bytes fit."""

    def __init__(self, bootstrap, binary):
        self.bootstrap = bootstrap
        self.binary = binary

    def run(self, *args, given=b"", seconds=30):
        return run([self.binary, *map(str, args)], given, seconds)

    def produce(self, topic, records, codec="none", idempotent=False):
        lines = []
        for record in records:
            line = {
                "key_base64": record["key"], "value_base64": record["value"], "timestamp": record["timestamp"],
                "headers": [{"key": name, "value_base64": value} for name, value in record["headers"]],
            }
            if record["partition"] is not None:
                line["partition"] = record["partition"]
            lines.append(json.dumps({name: part for name, part in line.items() if part is not None or name.endswith("64")}))
        options = ["-z", codec] if codec != "none" else []
        if not idempotent:
            options += ["-X", "enable.idempotence=false"]
        if records and records[0]["partition"] is not None:
            options += ["--keep-partition"]
        out = self.run("produce", topic, "-b", self.bootstrap, "--json", "--report", *options, given="\n".join(lines).encode())
        placed = [json.loads(line) for line in out.splitlines()]
        return {"placed": [[report["partition"], report["offset"]] for report in placed]}

    def consume(self, topic, partition, count, offset=0):
        out = self.run("consume", topic, "-b", self.bootstrap, "--json", "-p", partition, "-o", offset, "-c", count)
        records = []
        for line in out.splitlines():
            found = json.loads(line)
            records.append({
                "offset": found["offset"], "timestamp": found["timestamp"], "key": part(found, "key"), "value": part(found, "value"),
                "headers": [[header["key"], part(header, "value")] for header in found["headers"]],
            })
        return {"records": records}

    def admin(self, topic):
        self.run("topics", "create", topic, "-p", 2, "--config", "retention.ms=12345", "-b", self.bootstrap)
        time.sleep(SETTLE_SECONDS)
        self.run("topics", "alter", topic, "-p", 3, "-b", self.bootstrap)
        time.sleep(SETTLE_SECONDS)
        described = json.loads(self.run("topics", "describe", topic, "-b", self.bootstrap, "--json").splitlines()[0])
        configs = [json.loads(line) for line in self.run("configs", "get", f"topic:{topic}", "retention.ms", "-b", self.bootstrap, "--json").splitlines()]
        self.run("topics", "delete", topic, "--execute", "-b", self.bootstrap)
        time.sleep(SETTLE_SECONDS)
        left = [json.loads(line) for line in self.run("topics", "list", "-b", self.bootstrap, "--json").splitlines()]
        return {"partitions": len(described["partitions"]), "retention.ms": configs[0]["value"],
                "left": topic in [row["topic"] for row in left]}


def part(found, name):
    """A key or value of our JSON in base64."""
    if f"{name}_base64" in found:
        return found[f"{name}_base64"]
    return None if found[name] is None else base64.b64encode(found[name].encode()).decode()
