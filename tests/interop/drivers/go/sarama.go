package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct{ bootstrap string }

func newSarama(bootstrap string) client { return saramaClient{bootstrap} }

func (s saramaClient) config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_0_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Net.DialTimeout = 5 * time.Second
	return config
}

func (s saramaClient) produce(_ context.Context, r request) ([][2]int64, error) {
	config := s.config()
	if err := config.Producer.Compression.UnmarshalText([]byte(r.Codec)); err != nil {
		return nil, err
	}
	if r.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	if len(r.Records) > 0 && r.Records[0].Partition != nil {
		config.Producer.Partitioner = sarama.NewManualPartitioner
	}
	producer, err := sarama.NewSyncProducer([]string{s.bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var sent []*sarama.ProducerMessage
	for _, in := range r.Records {
		out := &sarama.ProducerMessage{Topic: r.Topic}
		if in.Key != nil {
			out.Key = sarama.ByteEncoder(in.Key)
		}
		if in.Value != nil {
			out.Value = sarama.ByteEncoder(in.Value)
		}
		if in.Partition != nil {
			out.Partition = *in.Partition
		}
		if in.Timestamp != nil {
			out.Timestamp = time.UnixMilli(*in.Timestamp)
		}
		for _, h := range in.Headers {
			out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(h.name), Value: h.value})
		}
		sent = append(sent, out)
	}
	if err := producer.SendMessages(sent); err != nil {
		return nil, err
	}
	var placed [][2]int64
	for _, out := range sent {
		placed = append(placed, [2]int64{int64(out.Partition), out.Offset})
	}
	return placed, nil
}

func (s saramaClient) consume(ctx context.Context, r request) ([]record, error) {
	consumer, err := sarama.NewConsumer([]string{s.bootstrap}, s.config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(r.Topic, r.Partition, r.Offset)
	if err != nil {
		return nil, err
	}
	defer partition.Close()
	var records []record
	for len(records) < r.Count {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-partition.Errors():
			return nil, err
		case in := <-partition.Messages():
			at := in.Timestamp.UnixMilli()
			out := record{Offset: in.Offset, Timestamp: &at, Key: in.Key, Value: in.Value, Headers: []headerField{}}
			for _, h := range in.Headers {
				out.Headers = append(out.Headers, headerField{string(h.Key), h.Value})
			}
			records = append(records, out)
		}
	}
	return records, nil
}

func (s saramaClient) admin(_ context.Context, topic string) (map[string]any, error) {
	admin, err := sarama.NewClusterAdmin([]string{s.bootstrap}, s.config())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	retention := "12345"
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}
	if err := admin.CreateTopic(topic, detail, false); err != nil {
		return nil, err
	}
	if err := admin.CreatePartitions(topic, 3, nil, false); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}
	configs, err := admin.DescribeConfig(resource)
	if err != nil {
		return nil, err
	}
	topics, err := admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	if err := admin.DeleteTopic(topic); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	left, err := admin.ListTopics()
	if err != nil {
		return nil, err
	}
	_, found := left[topic]
	return map[string]any{"partitions": len(topics[0].Partitions), "retention.ms": configs[0].Value, "left": found}, nil
}
