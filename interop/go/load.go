package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// writer sends with an idempotent producer; each record's fate is told to done, and close waits for all of them.
type writer interface {
	send(p int, number int64, key, value []byte)
	close() error
}

// fate is what became of a record of the case `load`.
type fate func(p int, number, offset int64, err error)

// loader is a client that has writers.
type loader interface {
	writer(topic string, timeout time.Duration, done fate) (writer, error)
}

type franzWriter struct {
	cl    *kgo.Client
	topic string
	done  fate
}

func (f *franz) writer(topic string, timeout time.Duration, done fate) (writer, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond), kgo.RecordDeliveryTimeout(timeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(100*time.Millisecond))
	return &franzWriter{cl, topic, done}, err
}

func (w *franzWriter) send(p int, number int64, key, value []byte) {
	record := &kgo.Record{Topic: w.topic, Partition: int32(p), Key: key, Value: value}
	w.cl.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		w.done(p, number, r.Offset, err)
	})
}

func (w *franzWriter) close() error {
	defer w.cl.Close()
	return w.cl.Flush(context.Background())
}

// numbered is the value of record `number` that the writer `name` sends to partition p.
func numbered(name string, p int, number int64) []byte {
	head := fmt.Sprintf("%s %d %d ", name, p, number)
	size := max(24+int((number*7919+int64(p)*104729)%600), len(head))
	value := make([]byte, size)
	for at := range value {
		value[at] = head[at%len(head)]
	}
	return value
}

func load(c client, a args) (string, error) {
	l, able := c.(loader)
	if !able {
		return "", errAbsent
	}
	file, err := os.Create(a["acks"])
	if err != nil {
		return "", err
	}
	defer file.Close()
	acks := bufio.NewWriter(file)
	var lock sync.Mutex
	counts := [2]int{}
	done := func(p int, number, offset int64, err error) {
		lock.Lock()
		defer lock.Unlock()
		if err != nil {
			counts[1]++
			fmt.Fprintf(acks, "! %d %d %v\n", p, number, err)
			return
		}
		counts[0]++
		fmt.Fprintf(acks, "%d %d %d %d\n", p, offset, number, time.Now().UnixMicro())
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	timeout := 120
	if a["timeout"] != "" {
		timeout = a.num("timeout")
	}
	w, err := l.writer(a["topic"], time.Duration(timeout)*time.Second, done)
	if err != nil {
		return "", err
	}
	began, sent, parts, rate := time.Now(), int64(0), int64(a.num("parts")), float64(a.num("rate"))
	for running := true; running; {
		for burst := 0; burst < 1000 && float64(sent) < time.Since(began).Seconds()*rate; burst++ {
			p, number := int(sent%parts), sent/parts
			w.send(p, number, []byte(a["id"]), numbered(a["id"], p, number))
			sent++
		}
		lock.Lock()
		err = acks.Flush()
		lock.Unlock()
		if err != nil {
			return "", err
		}
		select {
		case <-stop:
			running = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := w.close(); err != nil {
		return "", err
	}
	lock.Lock()
	defer lock.Unlock()
	return fmt.Sprintf("sent %d acknowledged %d failed %d", sent, counts[0], counts[1]), acks.Flush()
}
