package main

import "sync"

// owned is the set of partitions that a member has, changed from a client's callbacks.
type owned struct {
	lock  sync.Mutex
	parts map[int]bool
}

func (o *owned) add(parts []int32) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.parts == nil {
		o.parts = map[int]bool{}
	}
	for _, p := range parts {
		o.parts[int(p)] = true
	}
}

func (o *owned) drop(parts []int32) {
	o.lock.Lock()
	defer o.lock.Unlock()
	for _, p := range parts {
		delete(o.parts, int(p))
	}
}

func (o *owned) set(parts []int32) {
	o.lock.Lock()
	o.parts = nil
	o.lock.Unlock()
	o.add(parts)
}

func (o *owned) list() []int {
	o.lock.Lock()
	defer o.lock.Unlock()
	var list []int
	for p := range o.parts {
		list = append(list, p)
	}
	return list
}
