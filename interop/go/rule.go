package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Header is one header; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record with its place; nil is null, Ts 0 is the client's own time.
type Record struct {
	P       int
	Offset  int64
	Key     []byte
	Value   []byte
	Headers []Header
	Ts      int64
}

const (
	text = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	big  = 1 << 20
)

type stream uint32

func (x *stream) next() uint32 {
	*x ^= *x << 13
	*x ^= *x >> 17
	*x ^= *x << 5
	return uint32(*x)
}

func content(seed, i uint32, letters bool, length int) []byte {
	rng := stream(seed*2654435761 + i*40503 + 1)
	if rng == 0 {
		rng = 1
	}
	size := 1 + int(rng.next()%400)
	if length > 0 {
		size = length
	}
	value := make([]byte, size)
	for at := range value {
		switch {
		case at >= 4096:
			value[at] = value[at-4096]
		case letters:
			value[at] = text[rng.next()>>8&63]
		default:
			value[at] = byte(rng.next() >> 8)
		}
	}
	return value
}

// record is record i of a rule (see ../README.md).
func record(rule string, seed, i uint32, t0 int64) Record {
	r := Record{Key: fmt.Appendf(nil, "k-%d", i)}
	if t0 != 0 {
		r.Ts = t0 + 1000*int64(i)
	}
	switch rule {
	case "big":
		r.Value = content(seed, i, false, big)
	case "nullhdr":
		r.Value = content(seed, i, true, 0)
		r.Headers = []Header{{"h0", nil}, {"h1", []byte("v")}}
	case "plain":
		r.Ts = 0
		if i%11 != 4 {
			r.Value = content(seed, i, true, 0)
			if i%7 == 3 {
				r.Key = nil
			}
		}
	default:
		mix(&r, seed, i)
	}
	return r
}

func mix(r *Record, seed, i uint32) {
	switch i % 11 {
	case 4:
	case 8:
		r.Value = []byte{}
	default:
		r.Value = content(seed, i, false, 0)
	}
	if i%7 == 3 && r.Value != nil {
		r.Key = nil
	} else if i%7 == 5 {
		r.Key = []byte{}
	}
	all := []Header{{"h0", fmt.Appendf(nil, "v%d", i)}, {"h1", []byte{}}, {"h2", []byte{0xff, 0xfe}}}
	r.Headers = all[:i%4]
}

// same compares two byte strings; a client without null gives empty for both.
func same(want, got []byte, nulls bool) bool {
	return bytes.Equal(want, got) && (!nulls || (want == nil) == (got == nil))
}

func show(value []byte) string {
	if value == nil {
		return "null"
	}
	return fmt.Sprintf("%q (%d bytes)", value[:min(40, len(value))], len(value))
}

// difference says what is wrong with got as record i.
func difference(rule string, seed, i uint32, t0 int64, got Record, nulls bool) error {
	want := record(rule, seed, i, t0)
	switch {
	case !same(want.Key, got.Key, nulls):
		return fmt.Errorf("record %d: key is %s, not %s", i, show(got.Key), show(want.Key))
	case !same(want.Value, got.Value, nulls):
		return fmt.Errorf("record %d: value is %s, not %s", i, show(got.Value), show(want.Value))
	case len(want.Headers) != len(got.Headers):
		return fmt.Errorf("record %d: %d headers, not %d", i, len(got.Headers), len(want.Headers))
	case want.Ts != 0 && want.Ts != got.Ts:
		return fmt.Errorf("record %d: timestamp is %d, not %d", i, got.Ts, want.Ts)
	}
	for at, h := range want.Headers {
		if g := got.Headers[at]; h.Key != g.Key || !same(h.Value, g.Value, nulls) {
			return fmt.Errorf("record %d: header %d is %s=%s, not %s=%s", i, at, g.Key, show(g.Value), h.Key, show(h.Value))
		}
	}
	return nil
}

func putField(out []byte, field []byte) []byte {
	if field == nil {
		return binary.BigEndian.AppendUint32(out, 0xffffffff)
	}
	return append(binary.BigEndian.AppendUint32(out, uint32(len(field))), field...)
}

// pack is one record of a member's out file.
func pack(out []byte, r Record) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(r.P))
	out = binary.BigEndian.AppendUint64(out, uint64(r.Offset))
	return putField(putField(out, r.Key), r.Value)
}

func takeField(data []byte) (field, rest []byte, err error) {
	if len(data) < 4 {
		return nil, nil, errors.New("the record file is cut short")
	}
	size := int32(binary.BigEndian.Uint32(data))
	data = data[4:]
	if size < 0 {
		return nil, data, nil
	}
	if int(size) > len(data) {
		return nil, nil, errors.New("the record file is cut short")
	}
	return data[:size:size], data[size:], nil
}

// readFile reads the records of a record file.
func readFile(data []byte) (records []Record, err error) {
	for len(data) > 0 {
		r := Record{P: -1}
		if r.Key, data, err = takeField(data); err != nil {
			return nil, err
		}
		if r.Value, data, err = takeField(data); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// args are the name=value words of a case.
type args map[string]string

func parse(words []string) args {
	a := args{"rule": "mix"}
	for _, word := range words {
		if name, value, ok := strings.Cut(word, "="); ok {
			a[name] = value
		}
	}
	return a
}
