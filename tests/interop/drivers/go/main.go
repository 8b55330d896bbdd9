// Go's Kafka clients behind one protocol: a line of JSON in, a line of JSON out. See harness.py, class Driver.
//
//	go run . franz|sarama BOOTSTRAP
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// What one request changed another may show a moment later: Kafka's brokers follow the controller.
const settle = 300 * time.Millisecond

type record struct {
	Partition *int32        `json:"partition,omitempty"`
	Offset    int64         `json:"offset"`
	Timestamp *int64        `json:"timestamp"`
	Key       []byte        `json:"key"`
	Value     []byte        `json:"value"`
	Headers   []headerField `json:"headers"`
}

// headerField is [name, base64 or null] in JSON.
type headerField struct {
	name  string
	value []byte
}

func (h *headerField) UnmarshalJSON(text []byte) error {
	var parts [2]*json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if err := json.Unmarshal(*parts[0], &h.name); err != nil {
		return err
	}
	if parts[1] == nil {
		return nil
	}
	return json.Unmarshal(*parts[1], &h.value)
}

func (h headerField) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.name, h.value})
}

type request struct {
	Op         string   `json:"op"`
	Topic      string   `json:"topic"`
	Records    []record `json:"records"`
	Codec      string   `json:"codec"`
	Idempotent bool     `json:"idempotent"`
	Partition  int32    `json:"partition"`
	Offset     int64    `json:"offset"`
	Count      int      `json:"count"`
}

type client interface {
	produce(ctx context.Context, r request) ([][2]int64, error)
	consume(ctx context.Context, r request) ([]record, error)
	admin(ctx context.Context, topic string) (map[string]any, error)
}

func answer(c client, r request) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	switch r.Op {
	case "produce":
		placed, err := c.produce(ctx, r)
		return map[string]any{"placed": placed}, err
	case "consume":
		records, err := c.consume(ctx, r)
		return map[string]any{"records": records}, err
	case "admin":
		return c.admin(ctx, r.Topic)
	}
	return nil, errors.New("no such op: " + r.Op)
}

func main() {
	clients := map[string]func(string) client{"franz": newFranz, "sarama": newSarama}
	c := clients[os.Args[1]](os.Args[2])
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r request
		var out any
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			out, err = answer(c, r)
		}
		if err != nil {
			out = map[string]string{"error": err.Error()}
		}
		text, _ := json.Marshal(out)
		fmt.Println(string(text))
	}
}
