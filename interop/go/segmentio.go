package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// segmentio is segmentio/kafka-go. It has no idempotent producer and reads null as empty.
type segmentio struct {
	bootstrap []string
	cl        *kafka.Client
}

func newSegmentio(bootstrap []string) (client, error) {
	return &segmentio{bootstrap, &kafka.Client{Addr: kafka.TCP(bootstrap...), Timeout: 20 * time.Second}}, nil
}

func (s *segmentio) nulls() bool { return false }

func (s *segmentio) produce(topic, codec string, idempotent bool, records []Record) error {
	if idempotent {
		return fmt.Errorf("%w: no idempotent producer", errAbsent)
	}
	codecs := map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	w := &kafka.Writer{Addr: kafka.TCP(s.bootstrap...), Topic: topic, RequiredAcks: kafka.RequireAll, Balancer: &kafka.Hash{},
		Compression: codecs[codec], BatchTimeout: 5 * time.Millisecond, BatchBytes: 4 << 20, MaxAttempts: 20}
	if len(records) > 0 && records[0].P >= 0 {
		w.Balancer = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.WriterData.(int) })
	}
	var batch []kafka.Message
	for _, r := range records {
		m := kafka.Message{Key: r.Key, Value: r.Value, WriterData: r.P}
		if r.Ts != 0 {
			m.Time = time.UnixMilli(r.Ts)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return errors.Join(w.WriteMessages(ctx, batch...), w.Close())
}

func fromSegmentio(m kafka.Message) Record {
	r := Record{P: m.Partition, Offset: m.Offset, Key: m.Key, Value: m.Value, Ts: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{h.Key, h.Value})
	}
	return r
}

// segmentioSource reads partitions, each by a reader of its own.
type segmentioSource struct {
	messages chan kafka.Message
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func (s *segmentio) partition(topic string, p int, offset int64) (*kafka.Reader, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: s.bootstrap, Topic: topic, Partition: p,
		MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
	return r, r.SetOffset(offset)
}

func pump(ctx context.Context, r *kafka.Reader, out chan<- kafka.Message) {
	defer r.Close()
	for {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return
		}
	}
}

func (s *segmentio) reader(topic string, starts map[int]int64) (source, error) {
	ctx, cancel := context.WithCancel(context.Background())
	out := &segmentioSource{messages: make(chan kafka.Message), cancel: cancel}
	for p, offset := range starts {
		r, err := s.partition(topic, p, offset)
		if err != nil {
			cancel()
			return nil, err
		}
		out.running.Go(func() { pump(ctx, r, out.messages) })
	}
	return out, nil
}

func take(messages <-chan kafka.Message, limit int) []Record {
	var batch []Record
	for timeout := time.After(200 * time.Millisecond); len(batch) < limit; {
		select {
		case m := <-messages:
			batch = append(batch, fromSegmentio(m))
		case <-timeout:
			return batch
		}
	}
	return batch
}

func (s *segmentioSource) poll(limit int) ([]Record, error) { return take(s.messages, limit), nil }

func (s *segmentioSource) close() error {
	s.cancel()
	s.running.Wait()
	return nil
}

// segmentioMember uses the client's generations, which say what the member owns.
type segmentioMember struct {
	group    *kafka.ConsumerGroup
	topic    string
	messages chan kafka.Message
	mine     *owned
	lock     sync.Mutex
	current  *kafka.Generation
	next     map[int]int64
	cancel   context.CancelFunc
	done     chan struct{}
}

func (s *segmentio) member(topic, group string) (member, error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: s.bootstrap,
		Topics: []string{topic}, StartOffset: kafka.FirstOffset, SessionTimeout: 6 * time.Second,
		RebalanceTimeout: 10 * time.Second, HeartbeatInterval: 500 * time.Millisecond, JoinGroupBackoff: time.Second})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &segmentioMember{group: g, topic: topic, messages: make(chan kafka.Message), mine: &owned{},
		cancel: cancel, done: make(chan struct{})}
	go m.live(ctx, s)
	return m, nil
}

// live goes from generation to generation until the member leaves.
func (m *segmentioMember) live(ctx context.Context, s *segmentio) {
	defer close(m.done)
	for {
		generation, err := m.group.Next(ctx)
		if errors.Is(err, kafka.ErrGroupClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		m.lock.Lock()
		m.current, m.next = generation, map[int]int64{}
		m.lock.Unlock()
		var parts []int32
		for _, a := range generation.Assignments[m.topic] {
			parts = append(parts, int32(a.ID))
			r, err := s.partition(m.topic, a.ID, a.Offset)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				continue
			}
			generation.Start(func(ctx context.Context) { pump(ctx, r, m.messages) })
		}
		m.mine.set(parts)
	}
}

func (m *segmentioMember) poll(limit int) ([]Record, error) {
	batch := take(m.messages, limit)
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, r := range batch {
		if m.next != nil {
			m.next[r.P] = r.Offset + 1
		}
	}
	return batch, nil
}

func (m *segmentioMember) owned() []int { return m.mine.list() }

func (m *segmentioMember) commit() error {
	m.lock.Lock()
	generation, next := m.current, m.next
	m.next = map[int]int64{}
	m.lock.Unlock()
	if generation == nil || len(next) == 0 {
		return nil
	}
	if err := generation.CommitOffsets(map[string]map[int]int64{m.topic: next}); err != nil {
		fmt.Fprintln(os.Stderr, "not committed:", err) // the group rebalanced: the next owner reads these again
	}
	return nil
}

func (m *segmentioMember) close() error {
	m.cancel()
	err := m.group.Close()
	<-m.done
	return err
}

func (s *segmentio) list(topic string, p int, ask kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	ctx, cancel := soon()
	defer cancel()
	answer, err := s.cl.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {ask}}})
	if err != nil {
		return kafka.PartitionOffsets{}, err
	}
	for _, found := range answer.Topics[topic] {
		if found.Partition == p {
			return found, found.Error
		}
	}
	return kafka.PartitionOffsets{}, fmt.Errorf("no answer for partition %d", p)
}

func (s *segmentio) offsetAt(topic string, p int, ts int64) (int64, error) {
	found, err := s.list(topic, p, kafka.TimeOffsetOf(p, time.UnixMilli(ts)))
	if err != nil {
		return 0, err
	}
	for offset := range found.Offsets {
		return offset, nil
	}
	return -1, nil
}

func (s *segmentio) bounds(topic string, parts int) (map[int][2]int64, error) {
	bounds := map[int][2]int64{}
	for p := range parts {
		first, err := s.list(topic, p, kafka.FirstOffsetOf(p))
		if err != nil {
			return nil, err
		}
		last, err := s.list(topic, p, kafka.LastOffsetOf(p))
		if err != nil {
			return nil, err
		}
		bounds[p] = [2]int64{first.FirstOffset, last.LastOffset}
	}
	return bounds, nil
}

func (s *segmentio) create(topic string, parts int, configs map[string]string) error {
	ctx, cancel := soon()
	defer cancel()
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: parts, ReplicationFactor: int(replicas())}
	for name, value := range configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	answer, err := s.cl.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	if errors.Is(answer.Errors[topic], kafka.TopicAlreadyExists) {
		return errExists
	}
	return answer.Errors[topic]
}

func (s *segmentio) remove(topic string) error {
	ctx, cancel := soon()
	defer cancel()
	answer, err := s.cl.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return answer.Errors[topic]
}

func (s *segmentio) topics() (map[string]int, error) {
	ctx, cancel := soon()
	defer cancel()
	answer, err := s.cl.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, t := range answer.Topics {
		found[t.Name] = len(t.Partitions)
	}
	return found, nil
}

func (s *segmentio) broker() (string, error) {
	ctx, cancel := soon()
	defer cancel()
	answer, err := s.cl.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil || len(answer.Brokers) == 0 {
		return "", fmt.Errorf("no brokers: %w", err)
	}
	return strconv.Itoa(answer.Brokers[0].ID), nil
}

func (s *segmentio) configs(kind, name string) (map[string]string, error) {
	ctx, cancel := soon()
	defer cancel()
	resource := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeBroker, ResourceName: name}
	if kind == "topic" {
		resource.ResourceType = kafka.ResourceTypeTopic
	}
	answer, err := s.cl.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{resource}})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, r := range answer.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, e := range r.ConfigEntries {
			found[e.ConfigName] = e.ConfigValue
		}
	}
	return found, nil
}
