package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

const ours = "pixmed"

// results are the figures of all rounds, in the order in which they were measured.
type results struct {
	config map[string]string // the machine, the date, and so on
	rounds int
	groups []*group
}

// A group is a set of benchmarks that differ in the implementation alone.
type group struct {
	base       string // "Decode"
	conditions string // "size=1MiB"
	members    []*member
}

// A member is an implementation's figures.
type member struct {
	impl   string
	units  []string             // in the order in which they were printed
	values map[string][]float64 // by unit, one per round
}

// read reads the benchmarks' output.
func read(r io.Reader) (*results, error) {
	s := &results{config: make(map[string]string)}
	byName := make(map[string]*member)
	groups := make(map[string]*group)
	rounds := make(map[string]bool)
	reader := benchfmt.NewReader(r, "the benchmarks")
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			if err, ok := reader.Result().(*benchfmt.SyntaxError); ok {
				return nil, err
			}
			continue // a unit's description
		}
		for _, c := range result.Config {
			s.config[c.Key] = string(c.Value)
		}
		rounds[result.GetConfig("round")] = true
		base, conditions, impl, err := split(result.Name)
		if err != nil {
			return nil, err
		}
		key := base + "/" + conditions
		g := groups[key]
		if g == nil {
			g = &group{base: base, conditions: conditions}
			groups[key], s.groups = g, append(s.groups, g)
		}
		m := byName[key+"/"+impl]
		if m == nil {
			m = &member{impl: impl, values: make(map[string][]float64)}
			byName[key+"/"+impl], g.members = m, append(g.members, m)
		}
		for _, v := range result.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" {
				value, unit = v.OrigValue, v.OrigUnit
			}
			if !slices.Contains(m.units, unit) {
				m.units = append(m.units, unit)
			}
			m.values[unit] = append(m.values[unit], value)
		}
	}
	s.rounds = len(rounds)
	return s, reader.Err()
}

// split splits a benchmark's name.
func split(name benchfmt.Name) (base, conditions, impl string, err error) {
	b, parts := name.Parts()
	var conds []string
	for _, p := range parts {
		p := string(p)
		if strings.HasPrefix(p, "-") { // GOMAXPROCS
			continue
		}
		if after, ok := strings.CutPrefix(p, "/impl="); ok {
			impl = after
		} else {
			conds = append(conds, strings.TrimPrefix(p, "/"))
		}
	}
	if impl == "" {
		return "", "", "", fmt.Errorf("the benchmark %s names no implementation", name)
	}
	return string(b), strings.Join(conds, " "), impl, nil
}

// find returns a group, or nil if it was not measured.
func (s *results) find(base, conditions string) *group {
	for _, g := range s.groups {
		if g.base == base && g.conditions == conditions {
			return g
		}
	}
	return nil
}

// of returns a member of a group, or nil if it was not measured.
func (g *group) of(impl string) *member {
	if g == nil {
		return nil
	}
	for _, m := range g.members {
		if m.impl == impl {
			return m
		}
	}
	return nil
}

// primary returns the unit that implementations are compared by.
func (g *group) primary() string {
	for _, unit := range []string{"worked-s", "callbacks/s", "accepts/s", "p50-µs"} {
		if m := g.of(ours); m != nil && len(m.values[unit]) > 0 {
			return unit
		}
	}
	return "ns/op"
}

// median returns the median of a member's figures in a unit.
func (m *member) median(unit string) (float64, bool) {
	if m == nil {
		return 0, false
	}
	return median(m.values[unit])
}

// times returns how many times as good a is as b: the median of the rounds' ratios.
func times(a, b *member, unit string) (float64, bool) {
	if a == nil || b == nil || len(a.values[unit]) != len(b.values[unit]) {
		return 0, false
	}
	ratios := make([]float64, len(a.values[unit]))
	for i, x := range a.values[unit] {
		y := b.values[unit][i]
		if strings.HasSuffix(unit, "/s") { // more is better
			x, y = y, x
		}
		ratios[i] = y / x
	}
	return median(ratios)
}

func median(values []float64) (float64, bool) {
	n := len(values)
	if n == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, true
}
