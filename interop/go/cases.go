package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const patience = 40 * time.Second

// replicas is how many each topic has that is created here.
func replicas() int16 {
	n, err := strconv.ParseInt(os.Getenv("REPLICAS"), 10, 16)
	if err != nil {
		return 1
	}
	return int16(n)
}

var cases = map[string]func(client, args) (string, error){
	"create": create, "produce": produce, "consume": consume, "seek": seek, "seektime": seektime,
	"resume": resume, "topics": topics, "configs": configs, "offsets": offsets, "send": send, "load": load, "member": join,
}

func (a args) num(name string) int {
	n, err := strconv.Atoi(a[name])
	if err != nil {
		return 0
	}
	return n
}

func (a args) t0() int64 { return int64(a.num("t0")) }

// share is how many of the n records partition p has.
func (a args) share(p int) int { return (a.num("n") - p + a.num("parts") - 1) / a.num("parts") }

func (a args) check(r Record, due int64, nulls bool) error {
	if r.Offset != due {
		return fmt.Errorf("partition %d: offset %d where %d was due", r.P, r.Offset, due)
	}
	i := uint32(int(r.Offset)*a.num("parts") + r.P)
	if err := difference(a["rule"], uint32(a.num("seed")), i, a.t0(), r, nulls); err != nil {
		return fmt.Errorf("partition %d offset %d: %w", r.P, r.Offset, err)
	}
	return nil
}

func create(c client, a args) (string, error) {
	configs := map[string]string{}
	for name, value := range a {
		if strings.Contains(name, ".") {
			configs[name] = value
		}
	}
	return a["parts"] + " partitions", c.create(a["topic"], a.num("parts"), configs)
}

func produce(c client, a args) (string, error) {
	var records []Record
	for i := range a.num("n") {
		r := record(a["rule"], uint32(a.num("seed")), uint32(i), a.t0())
		r.P = i % a.num("parts")
		records = append(records, r)
	}
	return a["n"] + " records", c.produce(a["topic"], a["codec"], a["idem"] == "1", records)
}

func send(c client, a args) (string, error) {
	data, err := os.ReadFile(a["file"])
	if err != nil {
		return "", err
	}
	records, err := readFile(data)
	if err != nil {
		return "", err
	}
	err = c.produce(a["topic"], "zstd", true, records)
	if errors.Is(err, errAbsent) {
		err = c.produce(a["topic"], "zstd", false, records)
	}
	return fmt.Sprintf("%d records", len(records)), err
}

// read reads counts[p] records of each p from starts[p]; offsets must be dense.
func read(c client, a args, starts map[int]int64, counts map[int]int) error {
	s, err := c.reader(a["topic"], starts)
	if err != nil {
		return err
	}
	defer s.close()
	at, want, seen := map[int]int64{}, 0, 0
	for p, n := range counts {
		at[p] = starts[p]
		want += n
	}
	for deadline := time.Now().Add(patience); seen < want; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d records after %s", seen, want, patience)
		}
		batch, err := s.poll(500)
		if err != nil {
			return err
		}
		for _, r := range batch {
			if at[r.P]-starts[r.P] >= int64(counts[r.P]) {
				continue
			}
			if err := a.check(r, at[r.P], c.nulls()); err != nil {
				return err
			}
			at[r.P]++
			seen++
		}
	}
	return nil
}

func consume(c client, a args) (string, error) {
	starts, counts := map[int]int64{}, map[int]int{}
	for p := range a.num("parts") {
		starts[p], counts[p] = 0, a.share(p)
	}
	return a["n"] + " records", read(c, a, starts, counts)
}

func seek(c client, a args) (string, error) {
	each := int64(a.num("n") / a.num("parts"))
	for _, place := range []struct {
		from  int64
		count int
	}{{each / 2, 5}, {each - 3, 3}, {1, 5}} {
		if err := read(c, a, map[int]int64{0: place.from}, map[int]int{0: place.count}); err != nil {
			return "", err
		}
	}
	return "three places", nil
}

func seektime(c client, a args) (string, error) {
	for _, due := range []int64{0, 7} {
		at := a.t0() + 1000*(due*int64(a.num("parts"))+1) - 500
		found, err := c.offsetAt(a["topic"], 1, at)
		if err != nil {
			return "", err
		}
		if found != due {
			return "", fmt.Errorf("time %d is at offset %d, not %d", at, found, due)
		}
	}
	if err := read(c, a, map[int]int64{1: 7}, map[int]int{1: 4}); err != nil {
		return "", err
	}
	after, err := c.offsetAt(a["topic"], 1, a.t0()+1000*int64(a.num("n"))+1)
	if err == nil && after >= 0 {
		err = fmt.Errorf("a time after the last record has offset %d", after)
	}
	return "found, and none after the end", err
}

func resume(c client, a args) (string, error) {
	type place struct {
		p      int
		offset int64
	}
	seen, total, runs := map[place]bool{}, 0, []int{}
	for _, goal := range []int{a.num("n") / 2, a.num("n")} {
		m, err := c.member(a["topic"], a["group"])
		if err != nil {
			return "", err
		}
		before := total
		for deadline := time.Now().Add(patience); total < goal && err == nil; {
			if time.Now().After(deadline) {
				err = fmt.Errorf("%d of %d records after %s", total, goal, patience)
				break
			}
			var batch []Record
			if batch, err = m.poll(min(50, goal-total)); err != nil || len(batch) == 0 {
				continue
			}
			for _, r := range batch {
				seen[place{r.P, r.Offset}] = true
				total++
			}
			err = m.commit()
		}
		if closed := m.close(); err == nil {
			err = closed
		}
		if err != nil {
			return "", err
		}
		runs = append(runs, total-before)
	}
	if total != a.num("n") || len(seen) != total {
		return "", fmt.Errorf("%d records read, %d different, of %s", total, len(seen), a["n"])
	}
	return fmt.Sprintf("%d then %d", runs[0], runs[1]), nil
}

func topics(c client, a args) (string, error) {
	name := a["topic"]
	configs := map[string]string{"retention.ms": "86400000"}
	if err := c.create(name, 3, configs); err != nil {
		return "", err
	}
	if err := c.create(name, 3, configs); !errors.Is(err, errExists) {
		return "", fmt.Errorf("creating the topic again: %v", err)
	}
	if err := await(c, func(all map[string]int) bool { return all[name] == 3 }); err != nil {
		return "", fmt.Errorf("the new topic is not listed with 3 partitions: %w", err)
	}
	if err := c.remove(name); err != nil {
		return "", err
	}
	if err := await(c, func(all map[string]int) bool { _, found := all[name]; return !found }); err != nil {
		return "", fmt.Errorf("the deleted topic is still listed: %w", err)
	}
	return "created, refused, listed, deleted", nil
}

func await(c client, done func(map[string]int) bool) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		all, err := c.topics()
		if err != nil {
			return err
		}
		if done(all) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("10 s passed")
		}
	}
}

func configs(c client, a args) (string, error) {
	topic, err := c.configs("topic", a["topic"])
	if err != nil {
		return "", err
	}
	if topic[a["key"]] != a["value"] {
		return "", fmt.Errorf("%s is %q", a["key"], topic[a["key"]])
	}
	id, err := c.broker()
	if err != nil {
		return "", err
	}
	broker, err := c.configs("broker", id)
	if err != nil {
		return "", err
	}
	for _, key := range []string{"num.partitions", "log.dirs"} {
		if broker[key] == "" {
			return "", fmt.Errorf("the broker does not describe %s", key)
		}
	}
	return fmt.Sprintf("%d of a topic, %d of a broker", len(topic), len(broker)), nil
}

func offsets(c client, a args) (string, error) {
	got, err := c.bounds(a["topic"], a.num("parts"))
	if err != nil {
		return "", err
	}
	for p := range a.num("parts") {
		if due := [2]int64{0, int64(a.share(p))}; got[p] != due {
			return "", fmt.Errorf("partition %d: %v, not %v", p, got[p], due)
		}
	}
	return fmt.Sprintf("earliest and latest of %d", len(got)), nil
}

func join(c client, a args) (string, error) {
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	m, err := c.member(a["topic"], a["group"])
	if err != nil {
		return "", err
	}
	known := []int(nil)
	for first := true; ; first = false {
		select {
		case <-stop:
			return "left", m.close()
		default:
		}
		batch, err := m.poll(500)
		if err != nil {
			return "", err
		}
		owned := m.owned()
		slices.Sort(owned)
		if first || !slices.Equal(owned, known) {
			known = owned
			say(map[string]any{"event": "assigned", "partitions": append([]int{}, owned...)})
		}
		if len(batch) == 0 {
			continue
		}
		if err := keep(a["out"], batch); err != nil {
			return "", err
		}
		report(batch)
		if err := m.commit(); err != nil {
			return "", err
		}
	}
}

func keep(path string, batch []Record) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	var out []byte
	for _, r := range batch {
		out = pack(out, r)
	}
	_, err = f.Write(out)
	return errors.Join(err, f.Close())
}

// report prints the runs of consecutive offsets.
func report(batch []Record) {
	for at := 0; at < len(batch); {
		p, from := batch[at].P, batch[at].Offset
		to := from
		for at++; at < len(batch) && batch[at].P == p && batch[at].Offset == to+1; at++ {
			to++
		}
		say(map[string]any{"event": "batch", "p": p, "from": from, "to": to})
	}
}
