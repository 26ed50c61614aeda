package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is IBM/sarama at the newest protocol that it knows.
type saramaClient struct {
	bootstrap []string
	held      sarama.ClusterAdmin
	inner     sarama.Client
}

func newSarama(bootstrap []string) (client, error) { return &saramaClient{bootstrap: bootstrap}, nil }

func (s *saramaClient) nulls() bool { return true }

func (s *saramaClient) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.Return.Errors = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Metadata.AllowAutoTopicCreation = false
	return c
}

func (s *saramaClient) produce(topic, codec string, idempotent bool, records []Record) error {
	c := s.config()
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	c.Producer.Compression = codecs[codec]
	c.Producer.Idempotent = idempotent
	c.Net.MaxOpenRequests = 1
	c.Producer.Partitioner = sarama.NewHashPartitioner
	if len(records) > 0 && records[0].P >= 0 {
		c.Producer.Partitioner = sarama.NewManualPartitioner
	}
	for _, r := range records {
		c.Producer.MaxMessageBytes = max(c.Producer.MaxMessageBytes, len(r.Value)+(64<<10))
	}
	p, err := sarama.NewSyncProducer(s.bootstrap, c)
	if err != nil {
		return err
	}
	var batch []*sarama.ProducerMessage
	for _, r := range records {
		m := &sarama.ProducerMessage{Topic: topic, Partition: int32(r.P)}
		if r.Key != nil {
			m.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			m.Value = sarama.ByteEncoder(r.Value)
		}
		if r.Ts != 0 {
			m.Timestamp = time.UnixMilli(r.Ts)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		batch = append(batch, m)
	}
	return errors.Join(explain(p.SendMessages(batch)), p.Close())
}

// explain names the first reason, which the text of sarama's list of errors leaves out.
func explain(err error) error {
	if list := (sarama.ProducerErrors)(nil); errors.As(err, &list) && len(list) > 0 {
		return fmt.Errorf("%d messages failed, the first of partition %d: %w", len(list), list[0].Msg.Partition, list[0].Err)
	}
	return err
}

func fromSarama(m *sarama.ConsumerMessage) Record {
	r := Record{P: int(m.Partition), Offset: m.Offset, Key: m.Key, Value: m.Value, Ts: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{string(h.Key), h.Value})
	}
	return r
}

type saramaSource struct {
	consumer sarama.Consumer
	parts    []sarama.PartitionConsumer
	messages chan *sarama.ConsumerMessage
	stop     chan struct{}
}

func (s *saramaClient) reader(topic string, starts map[int]int64) (source, error) {
	consumer, err := sarama.NewConsumer(s.bootstrap, s.config())
	if err != nil {
		return nil, err
	}
	out := &saramaSource{consumer, nil, make(chan *sarama.ConsumerMessage), make(chan struct{})}
	for p, offset := range starts {
		part, err := consumer.ConsumePartition(topic, int32(p), offset)
		if err != nil {
			return nil, errors.Join(err, out.close())
		}
		out.parts = append(out.parts, part)
		go out.forward(part)
	}
	return out, nil
}

func (s *saramaSource) forward(part sarama.PartitionConsumer) {
	for m := range part.Messages() {
		select {
		case s.messages <- m:
		case <-s.stop:
			return
		}
	}
}

func (s *saramaSource) poll(limit int) ([]Record, error) {
	var batch []Record
	for timeout := time.After(200 * time.Millisecond); len(batch) < limit; {
		select {
		case m := <-s.messages:
			batch = append(batch, fromSarama(m))
		case <-timeout:
			return batch, nil
		}
	}
	return batch, nil
}

func (s *saramaSource) close() error {
	close(s.stop)
	for _, part := range s.parts {
		part.AsyncClose()
	}
	for _, part := range s.parts {
		for range part.Messages() {
		}
		for range part.Errors() {
		}
	}
	return s.consumer.Close()
}

// got is a message and the session that it came in.
type got struct {
	session sarama.ConsumerGroupSession
	message *sarama.ConsumerMessage
}

type saramaMember struct {
	group    sarama.ConsumerGroup
	topic    string
	messages chan got
	last     []got
	mine     *owned
	cancel   context.CancelFunc
	done     chan struct{}
}

func (s *saramaClient) member(topic, group string) (member, error) {
	g, err := sarama.NewConsumerGroup(s.bootstrap, group, s.config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &saramaMember{g, topic, make(chan got), nil, &owned{}, cancel, make(chan struct{})}
	go func() {
		for err := range g.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil {
				fmt.Fprintln(os.Stderr, err)
				time.Sleep(200 * time.Millisecond)
			}
		}
	}()
	return m, nil
}

// Setup is called when the member has its partitions.
func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.mine.set(session.Claims()[m.topic])
	return nil
}

// Cleanup is called when it has given them up.
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.mine.set(nil)
	return nil
}

// ConsumeClaim hands a partition's messages to poll.
func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.messages <- got{session, message}:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaMember) poll(limit int) ([]Record, error) {
	m.last = nil
	var batch []Record
	for timeout := time.After(200 * time.Millisecond); len(batch) < limit; {
		select {
		case g := <-m.messages:
			m.last = append(m.last, g)
			batch = append(batch, fromSarama(g.message))
		case <-timeout:
			return batch, nil
		}
	}
	return batch, nil
}

func (m *saramaMember) owned() []int { return m.mine.list() }

func (m *saramaMember) commit() error {
	sessions := map[sarama.ConsumerGroupSession]bool{}
	for _, g := range m.last {
		g.session.MarkMessage(g.message, "")
		sessions[g.session] = true
	}
	for session := range sessions {
		session.Commit()
	}
	return nil
}

func (m *saramaMember) close() error {
	m.cancel()
	<-m.done
	return m.group.Close()
}

func (s *saramaClient) admin() (sarama.ClusterAdmin, error) {
	if s.held == nil {
		inner, err := sarama.NewClient(s.bootstrap, s.config())
		if err != nil {
			return nil, err
		}
		s.inner = inner
		if s.held, err = sarama.NewClusterAdminFromClient(inner); err != nil {
			return nil, err
		}
	}
	return s.held, nil
}

func (s *saramaClient) offsetAt(topic string, p int, ts int64) (int64, error) {
	if _, err := s.admin(); err != nil {
		return 0, err
	}
	return s.inner.GetOffset(topic, int32(p), ts)
}

func (s *saramaClient) bounds(topic string, parts int) (map[int][2]int64, error) {
	bounds := map[int][2]int64{}
	for p := range parts {
		first, err := s.offsetAt(topic, p, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		last, err := s.offsetAt(topic, p, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		bounds[p] = [2]int64{first, last}
	}
	return bounds, nil
}

func (s *saramaClient) create(topic string, parts int, configs map[string]string) error {
	admin, err := s.admin()
	if err != nil {
		return err
	}
	pointers := map[string]*string{}
	for name, value := range configs {
		pointers[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(parts), ReplicationFactor: replicas(), ConfigEntries: pointers}
	err = admin.CreateTopic(topic, detail, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return errExists
	}
	return err
}

func (s *saramaClient) remove(topic string) error {
	admin, err := s.admin()
	if err != nil {
		return err
	}
	return admin.DeleteTopic(topic)
}

func (s *saramaClient) topics() (map[string]int, error) {
	admin, err := s.admin()
	if err != nil {
		return nil, err
	}
	all, err := admin.ListTopics()
	found := map[string]int{}
	for name, t := range all {
		found[name] = int(t.NumPartitions)
	}
	return found, err
}

func (s *saramaClient) broker() (string, error) {
	admin, err := s.admin()
	if err != nil {
		return "", err
	}
	brokers, _, err := admin.DescribeCluster()
	if err != nil || len(brokers) == 0 {
		return "", fmt.Errorf("no brokers: %w", err)
	}
	return strconv.Itoa(int(brokers[0].ID())), nil
}

func (s *saramaClient) configs(kind, name string) (map[string]string, error) {
	admin, err := s.admin()
	if err != nil {
		return nil, err
	}
	resource := sarama.ConfigResource{Type: sarama.BrokerResource, Name: name}
	if kind == "topic" {
		resource.Type = sarama.TopicResource
	}
	entries, err := admin.DescribeConfig(resource)
	found := map[string]string{}
	for _, e := range entries {
		found[e.Name] = e.Value
	}
	return found, err
}
