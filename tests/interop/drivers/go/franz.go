package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct{ bootstrap string }

func newFranz(bootstrap string) client { return franz{bootstrap} }

func (f franz) produce(ctx context.Context, r request) ([][2]int64, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(), "": kgo.NoCompression(),
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap), kgo.ProducerBatchCompression(codecs[r.Codec]), kgo.ProducerLinger(20 * time.Millisecond),
		kgo.AllowAutoTopicCreation(),
	}
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if len(r.Records) > 0 && r.Records[0].Partition != nil {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var sent []*kgo.Record
	for _, in := range r.Records {
		out := &kgo.Record{Topic: r.Topic, Key: in.Key, Value: in.Value}
		if in.Partition != nil {
			out.Partition = *in.Partition
		}
		if in.Timestamp != nil {
			out.Timestamp = time.UnixMilli(*in.Timestamp)
		}
		for _, h := range in.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
		}
		sent = append(sent, out)
	}
	if err := cl.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return nil, err
	}
	var placed [][2]int64
	for _, out := range sent {
		placed = append(placed, [2]int64{int64(out.Partition), out.Offset})
	}
	return placed, nil
}

func (f franz) consume(ctx context.Context, r request) ([]record, error) {
	from := map[string]map[int32]kgo.Offset{r.Topic: {r.Partition: kgo.NewOffset().At(r.Offset)}}
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.ConsumePartitions(from), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var records []record
	for len(records) < r.Count {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(in *kgo.Record) {
			at := in.Timestamp.UnixMilli()
			out := record{Offset: in.Offset, Timestamp: &at, Key: in.Key, Value: in.Value, Headers: []headerField{}}
			for _, h := range in.Headers {
				out.Headers = append(out.Headers, headerField{h.Key, h.Value})
			}
			records = append(records, out)
		})
	}
	return records, nil
}

func (f franz) admin(ctx context.Context, topic string) (map[string]any, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	retention := "12345"
	if _, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, topic); err != nil {
		return nil, err
	}
	if created, err := adm.UpdatePartitions(ctx, 3, topic); err != nil {
		return nil, err
	} else if err := created.Error(); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	described, err := configs.On(topic, nil)
	if err != nil {
		return nil, err
	}
	found := ""
	for _, config := range described.Configs {
		if config.Key == "retention.ms" {
			found = config.MaybeValue()
		}
	}
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	if _, err := adm.DeleteTopic(ctx, topic); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	left, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{"partitions": len(topics[topic].Partitions), "retention.ms": found, "left": left.Has(topic)}, nil
}
