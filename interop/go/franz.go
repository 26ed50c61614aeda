package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is twmb/franz-go with its default, cooperative group balancer.
type franz struct {
	bootstrap []string
	adm       *kadm.Client
}

func newFranz(bootstrap []string) (client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
	if err != nil {
		return nil, err
	}
	return &franz{bootstrap, kadm.NewClient(cl)}, nil
}

func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 50*time.Second)
}

func (f *franz) nulls() bool { return true }

func (f *franz) produce(topic, codec string, idempotent bool, records []Record) error {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	opts := []kgo.Opt{kgo.SeedBrokers(f.bootstrap...), kgo.ProducerBatchCompression(codecs[codec]),
		kgo.ProducerBatchMaxBytes(2 << 20), kgo.ProducerLinger(5 * time.Millisecond)}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	if len(records) > 0 && records[0].P >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var batch []*kgo.Record
	for _, r := range records {
		k := &kgo.Record{Topic: topic, Partition: int32(r.P), Key: r.Key, Value: r.Value}
		if r.Ts != 0 {
			k.Timestamp = time.UnixMilli(r.Ts)
		}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, k)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return cl.ProduceSync(ctx, batch...).FirstErr()
}

type franzSource struct {
	cl     *kgo.Client
	topic  string
	ctx    context.Context
	cancel context.CancelFunc
	mine   *owned
}

func (f *franz) open(topic string, opts ...kgo.Opt) (*franzSource, error) {
	opts = append(opts, kgo.SeedBrokers(f.bootstrap...), kgo.FetchMaxWait(100*time.Millisecond))
	cl, err := kgo.NewClient(opts...)
	ctx, cancel := context.WithCancel(context.Background())
	return &franzSource{cl, topic, ctx, cancel, &owned{}}, err
}

func (f *franz) reader(topic string, starts map[int]int64) (source, error) {
	at := map[int32]kgo.Offset{}
	for p, offset := range starts {
		at[int32(p)] = kgo.NewOffset().At(offset)
	}
	return f.open(topic, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
}

func (f *franz) member(topic, group string) (member, error) {
	mine := &owned{}
	gain := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { mine.add(parts[topic]) }
	lose := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { mine.drop(parts[topic]) }
	s, err := f.open(topic, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(gain), kgo.OnPartitionsRevoked(lose), kgo.OnPartitionsLost(lose))
	s.mine = mine
	return s, err
}

func (s *franzSource) poll(limit int) ([]Record, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	fetches := s.cl.PollRecords(ctx, limit)
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) && !kerr.IsRetriable(e.Err) {
			return nil, e.Err
		}
	}
	var batch []Record
	for _, k := range fetches.Records() {
		r := Record{P: int(k.Partition), Offset: k.Offset, Key: k.Key, Value: k.Value, Ts: k.Timestamp.UnixMilli()}
		for _, h := range k.Headers {
			r.Headers = append(r.Headers, Header{h.Key, h.Value})
		}
		batch = append(batch, r)
	}
	return batch, nil
}

func (s *franzSource) owned() []int { return s.mine.list() }

func (s *franzSource) commit() error {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	err := s.cl.CommitUncommittedOffsets(ctx)
	if errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) ||
		errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (s *franzSource) close() error {
	s.cl.Close()
	s.cancel()
	return nil
}

func (f *franz) offsetAt(topic string, p int, ts int64) (int64, error) {
	ctx, cancel := soon()
	defer cancel()
	listed, err := f.adm.ListOffsetsAfterMilli(ctx, ts, topic)
	if err != nil {
		return 0, err
	}
	found, _ := listed.Lookup(topic, int32(p))
	if found.Err == nil && found.Timestamp < 0 {
		return -1, nil // kadm answers with the end offset where there is none
	}
	return found.Offset, found.Err
}

func (f *franz) bounds(topic string, _ int) (map[int][2]int64, error) {
	ctx, cancel := soon()
	defer cancel()
	first, err := f.adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	last, err := f.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	bounds := map[int][2]int64{}
	first.Each(func(o kadm.ListedOffset) {
		end, _ := last.Lookup(topic, o.Partition)
		bounds[int(o.Partition)] = [2]int64{o.Offset, end.Offset}
	})
	return bounds, errors.Join(first.Error(), last.Error())
}

func (f *franz) create(topic string, parts int, configs map[string]string) error {
	ctx, cancel := soon()
	defer cancel()
	pointers := map[string]*string{}
	for name, value := range configs {
		pointers[name] = &value
	}
	_, err := f.adm.CreateTopic(ctx, int32(parts), replicas(), pointers, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return errExists
	}
	return err
}

func (f *franz) remove(topic string) error {
	ctx, cancel := soon()
	defer cancel()
	_, err := f.adm.DeleteTopic(ctx, topic)
	return err
}

func (f *franz) topics() (map[string]int, error) {
	ctx, cancel := soon()
	defer cancel()
	all, err := f.adm.ListTopics(ctx)
	found := map[string]int{}
	for name, t := range all {
		found[name] = len(t.Partitions)
	}
	return found, err
}

func (f *franz) broker() (string, error) {
	ctx, cancel := soon()
	defer cancel()
	brokers, err := f.adm.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return "", fmt.Errorf("no brokers: %w", err)
	}
	return strconv.Itoa(int(brokers[0].NodeID)), nil
}

func (f *franz) configs(kind, name string) (map[string]string, error) {
	ctx, cancel := soon()
	defer cancel()
	var got kadm.ResourceConfigs
	var err error
	if kind == "topic" {
		got, err = f.adm.DescribeTopicConfigs(ctx, name)
	} else {
		id, _ := strconv.Atoi(name)
		got, err = f.adm.DescribeBrokerConfigs(ctx, int32(id))
	}
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, resource := range got {
		if resource.Err != nil {
			return nil, resource.Err
		}
		for _, c := range resource.Configs {
			found[c.Key] = c.MaybeValue()
		}
	}
	return found, nil
}
