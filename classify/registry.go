package classify

import (
	"fmt"
	"sync"
)

const (
	// MaxIDs is the number of class ids there can ever be in one process.
	// Counters, live flows and snapshots index arrays of this size.
	MaxIDs = 64
	// Pending is the id of a flow whose name is not settled yet.
	Pending uint8 = 0
	// Other is the id of other/other: no name, or a name that no app owns.
	Other uint8 = 1

	maxClasses = MaxIDs - 2
)

// ClassInfo is what an id stands for.
type ClassInfo struct {
	App         string
	Class       string
	Kind        Kind
	IdleTimeout int64 // nanoseconds
}

// Registry gives each ⟨app, class⟩ an id and never takes it back, so that
// counters and the flows that are open at a reload keep their meaning. It is
// safe for concurrent use.
type Registry struct {
	mu         sync.Mutex
	ids        map[classRef]uint8
	table      [MaxIDs]ClassInfo
	used       int
	generation uint32
}

type classRef struct{ app, class string }

// NewRegistry returns a registry that knows Pending and Other.
func NewRegistry() *Registry {
	r := &Registry{ids: map[classRef]uint8{{OtherName, OtherName}: Other}, used: int(Other) + 1}
	r.table[Pending] = ClassInfo{App: "pending", Class: "pending", IdleTimeout: int64(defaultIdleTimeout)}
	r.table[Other] = ClassInfo{App: OtherName, Class: OtherName, IdleTimeout: int64(defaultIdleTimeout)}
	return r
}

// Adopt makes rules ready for use: classes met before keep their ids and take
// the new kind and time-out, new ones get the next free ids, and those that
// are gone from the file stay known for the flows that carry them. Where the
// ids do not suffice nothing changes.
func (r *Registry) Adopt(rules *Rules) (*Compiled, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if missing := r.missing(rules); r.used+missing > MaxIDs {
		return nil, fmt.Errorf("%s: %d new classes, but of the %d class ids only %d are free, because classes of earlier rules keep theirs; "+
			"keep the old class names or restart nametap", rules.file, missing, MaxIDs-2, MaxIDs-r.used)
	}
	r.generation++
	c := &Compiled{rules: rules, generation: r.generation, ids: make([][]uint8, len(rules.apps))}
	for a := range rules.apps {
		app := &rules.apps[a]
		ids := make([]uint8, 0, len(app.Classes)+1)
		for i := range app.Classes {
			class := &app.Classes[i]
			ids = append(ids, r.assign(ClassInfo{app.Name, class.Name, class.Kind, int64(class.IdleTimeout)}))
		}
		c.ids[a] = append(ids, r.assign(ClassInfo{app.Name, OtherName, Session, int64(defaultIdleTimeout)}))
	}
	c.table, c.used = r.table, r.used
	return c, nil
}

func (r *Registry) missing(rules *Rules) int {
	n := 0
	for a := range rules.apps {
		app := &rules.apps[a]
		for i := range app.Classes {
			if _, ok := r.ids[classRef{app.Name, app.Classes[i].Name}]; !ok {
				n++
			}
		}
		if _, ok := r.ids[classRef{app.Name, OtherName}]; !ok {
			n++
		}
	}
	return n
}

func (r *Registry) assign(info ClassInfo) uint8 {
	ref := classRef{info.App, info.Class}
	id, ok := r.ids[ref]
	if !ok {
		id = uint8(r.used)
		r.used++
		r.ids[ref] = id
	}
	r.table[id] = info
	return id
}

// Compiled is a rule set with its ids. It is immutable and safe for concurrent
// use.
type Compiled struct {
	rules      *Rules
	generation uint32
	ids        [][]uint8 // by app, then by class; the app's other is last
	table      [MaxIDs]ClassInfo
	used       int
}

// ID returns the class of a name, and whether it is naming drift: a name under
// an app's domains that no class matches. It never returns Pending.
func (c *Compiled) ID(name string) (id uint8, drift bool) {
	f := c.rules.find(canonical(name))
	if f.app < 0 {
		return Other, false
	}
	ids := c.ids[f.app]
	if f.class < 0 {
		return ids[len(ids)-1], true
	}
	return ids[f.class], false
}

// IDBytes is ID for a name in a buffer. It keeps no reference to name.
func (c *Compiled) IDBytes(name []byte) (id uint8, drift bool) { return c.ID(view(name)) }

// Info returns what an id stands for, the zero value for one that is not in use.
func (c *Compiled) Info(id uint8) ClassInfo { return c.table[id%MaxIDs] }

// IdleTimeout returns how long a flow of the class may be silent, in
// nanoseconds.
func (c *Compiled) IdleTimeout(id uint8) int64 { return c.table[id%MaxIDs].IdleTimeout }

// Len returns the number of ids in use: they are 0 to Len()-1, of these rules
// and of all that the registry adopted before them.
func (c *Compiled) Len() int { return c.used }

// Generation tells rule sets of one registry apart: 1 for the first, then
// rising. An id kept beside an interned name is good while this stays the same.
func (c *Compiled) Generation() uint32 { return c.generation }

// Rules returns the rules behind the ids.
func (c *Compiled) Rules() *Rules { return c.rules }
