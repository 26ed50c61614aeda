// The Go clients: `interop FAMILY BOOTSTRAP CASE [name=value ...]` (see ../README.md).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// client is what each family must be able to do for the cases.
type client interface {
	// produce writes records to their partitions, or by key where P is -1.
	produce(topic, codec string, idempotent bool, records []Record) error
	// reader reads partitions from offsets.
	reader(topic string, starts map[int]int64) (source, error)
	// member joins a group.
	member(topic, group string) (member, error)
	offsetAt(topic string, p int, ts int64) (int64, error)
	bounds(topic string, parts int) (map[int][2]int64, error)
	create(topic string, parts int, configs map[string]string) error
	remove(topic string) error
	topics() (map[string]int, error)
	configs(kind, name string) (map[string]string, error)
	broker() (string, error)
	// nulls says whether the client tells null from empty.
	nulls() bool
}

type source interface {
	// poll waits a short while for at most limit records.
	poll(limit int) ([]Record, error)
	close() error
}

type member interface {
	source
	owned() []int
	// commit commits what poll returned so far; losing a race with a rebalance is no error.
	commit() error
}

var (
	errAbsent = errors.New("the client has no such feature")
	errExists = errors.New("the topic exists")
)

type answer struct {
	Case   string `json:"case"`
	Ok     *bool  `json:"ok"`
	Detail string `json:"detail"`
	Ms     int64  `json:"ms"`
}

func say(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(text, '\n'))
}

func run(c client, name string, a args) bool {
	began := time.Now()
	detail, err := "", fmt.Errorf("no case %s", name)
	if f, found := cases[name]; found {
		detail, err = f(c, a)
	}
	ok := err == nil
	out := answer{Case: name, Ok: &ok, Detail: detail, Ms: time.Since(began).Milliseconds()}
	if err != nil {
		out.Detail = err.Error()
	}
	if errors.Is(err, errAbsent) {
		out.Ok = nil
	}
	say(out)
	return ok || out.Ok == nil
}

func connect(family, bootstrap string) (client, error) {
	addresses := strings.Split(bootstrap, ",")
	switch family {
	case "franz-go":
		return newFranz(addresses)
	case "sarama":
		return newSarama(addresses)
	case "kafka-go":
		return newSegmentio(addresses)
	}
	return nil, fmt.Errorf("no family %s", family)
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: interop FAMILY BOOTSTRAP CASE [name=value ...]")
		os.Exit(2)
	}
	c, err := connect(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Args[3] != "serve" {
		if !run(c, os.Args[3], parse(os.Args[4:])) {
			os.Exit(1)
		}
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) > 0 {
			run(c, words[0], parse(words[1:]))
		}
	}
}
