package main

import (
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// growing is the end of the name of a benchmark that is only plotted.
const growing = "Growing"

// table returns the table of all comparisons.
func (s *results) table() string {
	var b strings.Builder
	b.WriteString("| What | Conditions | Implementation | Median | × pixmed | Besides |\n|---|---|---|--:|--:|---|\n")
	for _, g := range s.groups {
		if strings.HasSuffix(g.base, growing) {
			continue
		}
		unit := g.primary()
		for i, m := range g.members {
			what, conditions := "", ""
			if i == 0 {
				what, conditions = g.base, g.conditions
			}
			value, _ := m.median(unit)
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", what, conditions, m.impl, quantity(value, unit), ratio(g, m, unit), m.besides(unit))
		}
	}
	return b.String()
}

// ratio says how much faster the SDK is than an implementation.
func ratio(g *group, m *member, unit string) string {
	if m.impl == ours {
		return "1"
	}
	r, ok := times(g.of(ours), m, unit)
	if !ok {
		return ""
	}
	return digits(r)
}

// besides lists what else was measured and is not zero.
func (m *member) besides(primary string) string {
	var list []string
	for _, unit := range m.units {
		if unit == primary || unit == "ns/op" || unit == "B/op" && m.values["alloc/size"] != nil {
			continue
		}
		if value, _ := m.median(unit); value != 0 || unit == "lost" || unit == "twice" || strings.HasPrefix(unit, "after-") {
			list = append(list, quantity(value, unit))
		}
	}
	return strings.Join(list, ", ")
}

// quantity writes a figure with its unit and a suitable prefix.
func quantity(value float64, unit string) string {
	switch unit {
	case "ns/op":
		return duration(value)
	case "worked-s", "answered-s":
		return strings.TrimSuffix(unit, "-s") + " in " + duration(value*1e9)
	case "accepts/s", "callbacks/s":
		return strconv.FormatFloat(math.Round(value), 'f', 0, 64) + "/s"
	case "MB/s":
		return digits(value) + " MB/s"
	case "B/op":
		return size(value) + " allocated"
	case "allocs/op":
		return digits(value) + " allocations"
	case "alloc/size":
		return digits(value) + "× the PDF allocated"
	}
	// A name and a unit: p99-µs, rss-growth-MiB.
	if i := strings.LastIndex(unit, "-"); i > 0 {
		what := strings.ReplaceAll(unit[:i], "-", " ")
		switch unit[i+1:] {
		case "µs":
			return what + " " + duration(value*1e3)
		case "KiB":
			return what + " " + size(value*(1<<10))
		case "MiB":
			return what + " " + size(value*(1<<20))
		}
	}
	return digits(value) + " " + unit
}

func duration(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns {
			return digits(ns/u.ns) + " " + u.name
		}
	}
	return digits(ns) + " ns"
}

func size(bytes float64) string {
	for _, u := range []struct {
		name  string
		bytes float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if bytes >= u.bytes {
			return digits(bytes/u.bytes) + " " + u.name
		}
	}
	return digits(bytes) + " B"
}

// digits writes a figure with at least three digits, if it has as many.
func digits(value float64) string {
	switch abs := math.Abs(value); {
	case abs >= 100 || value == math.Trunc(value):
		return strconv.FormatFloat(value, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	case abs >= 0.01:
		return strconv.FormatFloat(value, 'f', 2, 64)
	default:
		return strconv.FormatFloat(value, 'g', 2, 64)
	}
}

//go:embed page.md.tmpl
var pageTemplate string

// page returns docs/performance.md.
func (s *results) page() ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	day, err := time.Parse(time.DateOnly, s.config["date"])
	if err != nil {
		return nil, fmt.Errorf("the date of the measurement: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Config": s.config, "Date": day.Format("2 January 2006"), "Rounds": s.rounds,
		"Goals": s.goals(), "Table": s.table(), "Plots": s.drawings(),
	})
	return []byte(b.String()), err
}
